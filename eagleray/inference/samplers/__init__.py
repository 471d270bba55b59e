"""BlackJAX behind one call: `sample(key, target, method)`."""

from eagleray.inference.samplers.registry import METHODS, Method
from eagleray.inference.samplers.sampling import nuts, sample

__all__ = ["METHODS", "Method", "nuts", "sample"]
