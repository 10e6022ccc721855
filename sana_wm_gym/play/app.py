"""Walk in a world while it is generated: a page in the browser, steered by keys, gamepad or touch.

    sana-wm play                                   # tiny, at the URL that it prints
    sana-wm play --world procedural --seed 7       # exact renderings of random rooms
    sana-wm play --world twin --task image_goal    # with the goal's picture and the reward
    sana-wm play --task image_goal --policy outputs/agents/ppo_image_goal_tiny_seed0
    sana-wm play --window                          # a window on the desktop in place of the page
    sana-wm play --port 8765 --no-browser          # prints the URL, opens nothing

The page is served from this machine alone, to those who have the URL with its token. A key changes
the chunk that is being shown, if the world is fast enough; --next-chunk turns that off. Saved walks
are written to --folder. Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import webbrowser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

import uvicorn

from sana_wm_gym.camera.keys import KEY_MAPS, SANA_WM_2026_06
from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.play.config import PlayConfig
from sana_wm_gym.play.pilot import Pilot
from sana_wm_gym.play.server import play_app
from sana_wm_gym.play.session import Session
from sana_wm_gym.play.wire import MAX_MESSAGE

HOST = "127.0.0.1"
_WORLDS = ("tiny", "twin", "procedural")  # those that are in the package


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    parser = FlagParser("sana-wm play", __doc__)
    add = parser.add_argument
    add("--world", default="tiny", help="world to begin in, by any name that load_world takes")
    add("--task", default="free_roam", help="task to set (free_roam)")
    add("--image", type=Path, help="picture to begin with")
    add("--prompt", help="scene text to begin with")
    add("--policy", type=Path, help="folder of a training run, whose policy may take over")
    add("--seed", type=int, default=0, help="of the first walk (0)")
    add("--key-map", choices=sorted(KEY_MAPS), default=SANA_WM_2026_06.name)
    add("--port", type=int, default=8000, help="8000 by default; 0 picks a free one")
    add("--token", help="secret in the URL; a new one by default")
    add("--folder", type=Path, default=Path("outputs/play"), help="of saved walks (outputs/play)")
    add("--no-browser", action="store_true", help="only print the URL")
    add("--no-twin", action="store_true", help="do not show the ground truth next to the world")
    add("--next-chunk", action="store_true", help="keys act from the next chunk on")
    add("--window", action="store_true", help="a window on the desktop in place of the page")
    options = parser.parse_args(arguments)
    env = EnvConfig(
        world=options.world,
        task=options.task,
        image=options.image,
        prompt=options.prompt,
        key_map=options.key_map,
        action_mode="keys",
    )
    config = PlayConfig(
        env=env,
        seed=options.seed,
        worlds=tuple(dict.fromkeys((options.world, *_WORLDS))),
        folder=options.folder,
        again=not options.next_chunk,
        twin=not options.no_twin,
        pilot=None if options.policy is None else pilot_of(options.policy),
    )
    if options.window:
        from sana_wm_gym.play.desktop import Desktop  # pygame greets when it is imported

        asyncio.run(Desktop(config).run())
        return 0
    # What does not fit is refused before anything is served.
    session = Session(env, options.seed)
    if config.pilot is not None:
        config.pilot.check_fits(session)
    with listening(options.port) as listener:
        port = listener.getsockname()[1]
        token = options.token or secrets.token_urlsafe(16)
        url = f"http://{HOST}:{port}/?token={quote(token)}"
        print(f"{url}\nCtrl-C ends it.", flush=True)
        if not options.no_browser and not webbrowser.open(url):
            print("no browser found: open the URL in one", flush=True)
        settings = uvicorn.Config(
            play_app(config, token, port),
            log_level="warning",
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE,
            ws_max_queue=32,
            timeout_graceful_shutdown=3,
        )
        uvicorn.Server(settings).run(sockets=[listener])
    return 0


def pilot_of(run: Path) -> Pilot:
    """The policy of a training run.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint yet.
        ValueError: It is damaged.
        ModuleNotFoundError: The extra `agents` is not installed.
    """
    agents = import_module("sana_wm_gym.agents.policy")  # only who names a run needs its extra
    return Pilot(*agents.trained_policy(agents.open_run(run)))


def listening(port: int) -> socket.socket:
    """A socket that accepts connections from this machine.

    Raises:
        OSError: The port is in use, reserved or no port.
    """
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A page that reads slowly is shown frames late, not a queue of old ones.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        listener.bind((HOST, port))
        listener.listen()  # a browser may come before the server does
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"port {port}: {error}; --port 0 picks a free one") from error
    return listener
