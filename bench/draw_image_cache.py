#!/usr/bin/env python3
"""Draws the tables of bench/image_cache_bench: objects hit against seconds of pulling saved.

bench/draw_image_cache.py RESULT.md PICTURE.svg: one panel for each table, a point for each policy.
"""
import pathlib
import re
import sys

COLOURS = {"LRU": "#888888", "SIEVE": "#c06000", "S3-FIFO": "#a08000", "GDSF": "#40a060", "seconds": "#004080",
           "the same by hits": "#4080c0", "clairvoyant": "#c02040", "clairvoyant, seconds": "#c060a0", "bound": "#000000"}
LEFT, TOP, SIDE, GAP = 50, 34, 300, 90


def tables(text):
    for title, body in re.findall(r"^## (.+ of the unique bytes)\n\n((?:\|.*\n)+)", text, re.M):
        points = {}
        for line in body.splitlines()[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            name = cells[0]
            if name.startswith("seconds") and "default" not in name:
                continue
            name = "seconds" if name.startswith("seconds") else name
            points[name] = (float(cells[1].split()[0]), float(cells[4].split()[0]))
        yield title, points


def panel(out, at, title, points):
    left = LEFT + at % 2 * (SIDE + GAP)
    top = TOP + at // 2 * (SIDE + GAP)
    low = 5 * int(min(min(pair) for pair in points.values()) // 5)
    scale = SIDE / (100 - low)
    out.append(f'<text x="{left}" y="{top - 12}" font-weight="bold">{title}</text>'
               f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#bbbbbb"/>'
               f'<text x="{left + SIDE}" y="{top + SIDE + 32}" text-anchor="end">objects hit, %</text>'
               f'<text x="{left + 6}" y="{top + 14}" fill="#666666">seconds saved, %</text>')
    for tick in range(low, 101, 10):
        out.append(f'<text x="{left + (tick - low) * scale:.0f}" y="{top + SIDE + 16}" text-anchor="middle">{tick}</text>'
                   f'<text x="{left - 6}" y="{top + SIDE - (tick - low) * scale + 4:.0f}" text-anchor="end">{tick}</text>')
    lowest = {"start": top, "end": top}  # where the last label of each side ended: the next goes below it
    for name, (objects, seconds) in sorted(points.items(), key=lambda point: -point[1][1]):
        x, y = left + (objects - low) * scale, top + SIDE - (seconds - low) * scale
        side = "start" if x < left + SIDE / 2 else "end"
        lowest[side] = max(y + 4, lowest[side] + 13)
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[name]}"/>'
                   f'<text x="{x + (7 if side == "start" else -7):.1f}" y="{lowest[side]:.1f}" '
                   f'fill="{COLOURS[name]}" text-anchor="{side}">{name}</text>')


def main():
    found = list(tables(pathlib.Path(sys.argv[1]).read_text()))
    rows = (len(found) + 1) // 2
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (SIDE + GAP) + 20} {TOP + rows * (SIDE + GAP)}" '
           'font-family="sans-serif" font-size="12">']
    for at, (title, points) in enumerate(found):
        panel(out, at, title, points)
    pathlib.Path(sys.argv[2]).write_text("\n".join(out + ["</svg>"]) + "\n")


if __name__ == "__main__":
    main()
