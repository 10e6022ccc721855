"""The camera-control benchmark: videos from worlds, scores from videos, tables from scores."""
