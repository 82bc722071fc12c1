"""The colours of the heat map: one blue, dark (low) to pale (high), legible in grey."""

from fairbench.page.tables import LEVELS

Colour = tuple[float, float, float]
LIGHT: tuple[Colour, ...] = ((8, 40, 90), (33, 102, 172), (103, 169, 207), (209, 229, 240), (247, 250, 253))
DARK: tuple[Colour, ...] = ((222, 235, 247), (128, 180, 220), (52, 110, 165), (28, 58, 92), (22, 34, 48))


def rules() -> str:
    """A rule for each level, light and dark, with black or white numbers, whichever are easier to read."""
    return _rules(LIGHT) + "@media screen and (prefers-color-scheme:dark){" + _rules(DARK) + "}\n"


def _rules(stops: tuple[Colour, ...]) -> str:
    return "".join(_rule(f".h{k}", _between(stops, k / LEVELS)) for k in range(LEVELS + 1))


def _rule(selector: str, colour: Colour) -> str:
    text: Colour = (
        (0, 0, 0) if contrast(colour, (0, 0, 0)) >= contrast(colour, (255, 255, 255)) else (255, 255, 255)
    )
    return f"{selector}{{background:{_hex(colour)};color:{_hex(text)}}}\n"


def _between(stops: tuple[Colour, ...], share: float) -> Colour:
    place = share * (len(stops) - 1)
    k = min(int(place), len(stops) - 2)
    first, second = stops[k], stops[k + 1]
    red, green, blue = (a + (place - k) * (b - a) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{round(part):02x}" for part in colour)


def contrast(one: Colour, other: Colour) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    linear = [c / 12.92 if (c := part / 255) <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
