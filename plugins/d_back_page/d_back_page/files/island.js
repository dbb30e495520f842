// The ground: which cells there are, in what order they are settled, and where they lie.

/** The same number in [0, 1) for the same cell, always. */
export function noise(x, y, salt = 0) {
  let mixed = (x * 374761393 + y * 668265263 + salt * 974634777) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 13), 1274126177);
  mixed ^= mixed >>> 16;
  return (mixed >>> 0) / 4294967296;
}

const VILLAGE = 80; // seats
const KEY = 4096;
export const keyOf = (x, y) => (x + KEY) * 2 * KEY + (y + KEY);

/** An island on which at least `wanted` people have a seat. Larger islands have the same first
 * cells: no member moves when one grows. */
export class Island {
  constructor(wanted) {
    const isVillage = wanted < VILLAGE;
    const wild = isVillage ? 0.5 : 0.24; // a village has gardens, a town has not
    const total = Math.ceil(Math.min(wanted * 3, 130 + wanted * 1.42)) + 14;
    const reach = Math.ceil(Math.sqrt(total / Math.PI)) + 3;
    const found = [];
    for (let x = -reach; x <= reach; x += 1) {
      for (let y = -reach; y <= reach; y += 1) {
        found.push({ x, y, far: Math.hypot(x, y) + noise(x, y) * 1.1, who: null, index: 0 });
      }
    }
    found.sort((a, b) => a.far - b.far);
    this.cells = found.slice(0, total);
    this.at = new Map(this.cells.map((cell) => [keyOf(cell.x, cell.y), cell]));
    for (const cell of this.cells) {
      cell.wild = noise(cell.x, cell.y, 7); // what grows there
      cell.seat = noise(cell.x, cell.y, 3) > wild && cell.wild > 0.06;
      // In a village, no cube right behind another one: its face would be where the name belongs.
      if (isVillage && (this.neighbour(cell, 1, 1)?.seat || this.neighbour(cell, -1, -1)?.seat)) {
        cell.seat = false;
      }
    }
    this.seats = this.cells.filter((cell) => cell.seat);
    for (const cell of this.cells) {
      if (this.seats.length >= wanted) break;
      if (!cell.seat) this.seats.push(cell);
      cell.seat = true;
    }
    this.byDepth = [...this.cells].sort((a, b) => a.x + a.y - (b.x + b.y) || a.x - b.x);
    const across = this.cells.map((cell) => cell.x - cell.y);
    const down = this.cells.map((cell) => cell.x + cell.y);
    this.left = reduced(across, Math.min);
    this.right = reduced(across, Math.max);
    this.top = reduced(down, Math.min);
    this.bottom = reduced(down, Math.max);
  }

  /** Lay it out in a box of that size, in px: `w` is half the width of a cell. */
  fit(width, height, margin) {
    const across = this.right - this.left + 3;
    const down = (this.bottom - this.top) / 2 + 3.6; // a cube above, earth below
    const room = height - margin.top - margin.bottom;
    this.w = Math.max(1.6, Math.min((width - 24) / across, room / down, 72));
    this.cx = width / 2 - ((this.right + this.left) / 2) * this.w;
    const middle = ((this.bottom + this.top) / 4) * this.w;
    this.cy = margin.top + room / 2 - middle + this.w * 0.3;
  }

  point(cell) {
    return [this.cx + (cell.x - cell.y) * this.w, this.cy + ((cell.x + cell.y) * this.w) / 2];
  }

  /** The cell at a point, or undefined. */
  pick(px, py) {
    const across = (px - this.cx) / this.w;
    const down = ((py - this.cy) * 2) / this.w;
    return this.at.get(keyOf(Math.round((down + across) / 2), Math.round((down - across) / 2)));
  }

  neighbour(cell, dx, dy) {
    return this.at.get(keyOf(cell.x + dx, cell.y + dy));
  }
}

function reduced(numbers, choose) {
  return numbers.reduce((a, b) => choose(a, b), numbers[0]);
}
