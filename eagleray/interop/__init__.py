"""The edges: files of astronomers in, results out. Only this room imports Stingray."""

from eagleray.interop.reading import read_observation

__all__ = ["read_observation"]
