"""Text as LaTeX reads it: what is a command, a ligature or unknown to pdflatex is written in another way."""

import re
import unicodedata

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after \\ they would be its arguments
    '"': "''", "`": r"\textasciigrave{}",
}  # fmt: skip
SYMBOLS = {
    "\N{MINUS SIGN}": "-", "±": r"\pm", "\N{MULTIPLICATION SIGN}": r"\times",
    "·": r"\cdot", "÷": r"\div", "√": r"\surd", "∞": r"\infty",
    "≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "≈": r"\approx", "∝": r"\propto", "∂": r"\partial",
    "→": r"\rightarrow", "←": r"\leftarrow", "↔": r"\leftrightarrow", "↑": r"\uparrow", "↓": r"\downarrow",
    "⇒": r"\Rightarrow", "⊙": r"\odot", "⊗": r"\otimes", "⊕": r"\oplus", "∘": r"\circ", "°": r"^\circ", "µ": r"\mu",
    "⁺": "^+", "⁻": "^-", "∇": r"\nabla", "∈": r"\in", "∑": r"\sum", "∏": r"\prod", "¬": r"\neg",
}  # fmt: skip
PLAIN = {
    "\N{EN DASH}": "--", "—": "---", "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'", "“": "``", "”": "''", "…": r"\ldots{}", "ß": r"\ss{}", "æ": r"\ae{}",
    "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "å": r"\r{a}",
    "Å": r"\r{A}", "§": r"\S{}", "©": r"\copyright{}", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0323": "d",
}  # fmt: skip
GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)")
# Commands that have a capital, and letters whose capitals are Latin ones.
COMMANDS = ["gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"]
SMALL = ["alpha", "beta", "epsilon", "zeta", "eta", "iota", "kappa", "mu", "nu", "rho", "tau", "chi"]  # fmt: skip
CAPITALS = {"eta": "H", "rho": "P", "chi": "X"}  # the others have the first letter of their names


def escape(words: str, breaks: bool = False) -> str:
    """The same words for LaTeX; with `breaks`, lines may end after a slash, an underscore, and within very long
    words.

    A character for which pdflatex has no letter is written as its number, [U+4E2D].
    """
    words = " ".join(unicodedata.normalize("NFC", words).split())
    shown = "".join(_letter(letter) or f"{{[}}U+{ord(letter):04X}{{]}}" for letter in words)
    shown = re.sub(r"-(?=-)|,(?=,)", r"\g<0>{}", shown) if "--" in words or ",," in words else shown  # no ligatures
    if not breaks:
        return shown
    shown = re.sub(r"[A-Za-z0-9]{12}(?=[A-Za-z0-9]{12})", r"\g<0>\\allowbreak{}", shown)
    return re.sub(r"(/|\\_)", r"\1\\allowbreak{}", shown)


def unknown_characters(words: str) -> list[str]:
    """The characters that `escape` writes as numbers, each once, in order."""
    words = " ".join(unicodedata.normalize("NFC", words).split())
    return sorted({letter for letter in words if _letter(letter) is None})


def _letter(letter: str) -> str | None:
    if letter in SPECIAL:
        return SPECIAL[letter]
    if letter.isascii():
        return letter if letter.isprintable() else None
    if letter in PLAIN:
        return PLAIN[letter]
    symbol = SYMBOLS.get(letter) or _greek(letter) or _raised(letter)
    return f"${symbol}$" if symbol else _accented(letter)


def _greek(letter: str) -> str | None:
    match = GREEK.fullmatch(unicodedata.name(letter, "").replace("LAMDA", "LAMBDA"))
    if match is None:
        return None
    name, is_small = match[2].lower(), match[1] == "SMALL"
    if name in COMMANDS or (name in SMALL and is_small):
        return "\\" + (name if is_small else name.title())
    if name == "omicron":
        return "o" if is_small else "O"
    return CAPITALS.get(name, name[0].upper()) if name in SMALL else None


def _raised(letter: str) -> str | None:
    """Superscript and subscript digits."""
    kind, _, digit = unicodedata.decomposition(letter).partition(" ")
    sign = {"<super>": "^", "<sub>": "_"}.get(kind)
    plain = chr(int(digit, 16)) if sign and len(digit) == 4 else ""
    return f"{sign}{plain}" if plain.isascii() and plain.isalnum() else None


def _accented(letter: str) -> str | None:
    base, *marks = unicodedata.normalize("NFD", letter)
    if len(marks) != 1 or marks[0] not in ACCENTS or not (base.isascii() and base.isalpha()):
        return None
    return rf"\{ACCENTS[marks[0]]}{{{base}}}"
