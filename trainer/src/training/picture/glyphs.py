"""Makes glyphs.txt, what words in a picture are drawn with where no font is at hand: the outlines of a TrueType font's printable ASCII characters.

    pip install fonttools && python glyphs.py Roboto-Regular.ttf > glyphs.txt
"""

import sys

from fontTools.pens.basePen import BasePen
from fontTools.ttLib import TTFont


class Contours(BasePen):
    """Writes contours as SVG's paths have them, from the baseline up."""

    def __init__(self, glyphs):
        super().__init__(glyphs)
        self.words = []

    def add(self, command, *points):
        self.words += [command, *(f"{value:g}" for point in points for value in point)]

    def _moveTo(self, to):
        self.add("M", to)

    def _lineTo(self, to):
        self.add("L", to)

    def _qCurveToOne(self, control, to):
        self.add("Q", control, to)

    def _closePath(self):
        self.add("Z")


def main():
    font = TTFont(sys.argv[1])
    glyphs, names = font.getGlyphSet(), font.getBestCmap()
    said = font["name"].getDebugName
    print(f"# {said(4)}, {said(5)}. {said(0)} {said(13)}: {said(14)}")
    print("# Made by glyphs.py: a character, its advance and its contours a line, in parts of an em.")
    print(font["head"].unitsPerEm)
    for character in map(chr, range(ord(" "), ord("~") + 1)):
        glyph, contours = glyphs[names[ord(character)]], Contours(glyphs)
        glyph.draw(contours)
        print(character, glyph.width, *contours.words)


if __name__ == "__main__":
    main()
