"""Walk in a world with the keyboard: `sana-wm play`."""

from __future__ import annotations

import argparse
import secrets
import socket
import sys
import webbrowser
from pathlib import Path

from sana_wm_gym.camera.keys import KEY_MAPS, SANA_WM_2026_06
from sana_wm_gym.envs.config import EnvConfig

HOST = "127.0.0.1"


def parser() -> argparse.ArgumentParser:
    """Flags of `sana-wm play`."""
    flags = argparse.ArgumentParser(
        prog="sana-wm play",
        description="Walk in a world in the browser: keys, gamepad or touch.",
        epilog="example: sana-wm play --world tiny",
    )
    flags.add_argument("--world", default="tiny", help="world to begin in (default: %(default)s)")
    flags.add_argument("--task", default="free_roam", help="task to set (default: %(default)s)")
    flags.add_argument("--image", type=Path, help="picture to begin with")
    flags.add_argument("--prompt", help="scene text to begin with")
    flags.add_argument("--seed", type=int, default=0, help="of the first walk (default: 0)")
    flags.add_argument("--key-map", choices=sorted(KEY_MAPS), default=SANA_WM_2026_06.name)
    flags.add_argument("--port", type=int, default=8000, help="default: %(default)s; 0 picks one")
    flags.add_argument("--token", help="secret of the URL (default: a new one)")
    flags.add_argument("--folder", type=Path, default=Path("outputs/play"), help="for saved walks")
    flags.add_argument("--no-browser", action="store_true", help="only print the URL")
    flags.add_argument("--no-twin", action="store_true", help="do not show the ground truth")
    flags.add_argument(
        "--next-chunk", action="store_true", help="keys act from the next chunk on, the usual way"
    )
    return flags


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        import uvicorn

        from sana_wm_gym.play.connection import MAX_MESSAGE, PlayConfig
        from sana_wm_gym.play.server import play_app
        from sana_wm_gym.play.session import Session
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is missing: pip install 'sana_wm_gym[play]'")
    env = EnvConfig(
        world=options.world,
        task=options.task,
        image=options.image,
        prompt=options.prompt,
        key_map=options.key_map,
        action_mode="keys",
    )
    worlds = tuple(dict.fromkeys((options.world, "tiny", "twin", "procedural")))
    config = PlayConfig(
        env=env,
        seed=options.seed,
        worlds=worlds,
        folder=options.folder,
        again=not options.next_chunk,
        twin=not options.no_twin,
    )
    try:
        Session(env, options.seed)
    except (ValueError, OSError) as error:
        return _fail(str(error))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A page that reads slowly is shown frames late, not a queue of old ones.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        try:
            listener.bind((HOST, options.port))
            listener.listen()  # a browser may come before the server does
        except (OSError, OverflowError) as error:
            return _fail(f"port {options.port}: {error}; --port 0 picks a free one")
        port = listener.getsockname()[1]
        token = options.token or secrets.token_urlsafe(16)
        url = f"http://{HOST}:{port}/?token={token}"
        print(f"sana-wm play: {url}\nCtrl-C ends it.", flush=True)
        if not options.no_browser and not webbrowser.open(url):
            print("no browser found: open the URL above yourself", flush=True)
        server = uvicorn.Server(
            uvicorn.Config(
                play_app(config, token, port),
                log_level="warning",
                ws="websockets-sansio",
                ws_max_size=MAX_MESSAGE,
                ws_max_queue=32,
            )
        )
        server.run(sockets=[listener])
    return 0


def _fail(message: str) -> int:
    print(f"sana-wm play: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
