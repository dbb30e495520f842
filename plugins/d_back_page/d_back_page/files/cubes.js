// How things look: the earth, what grows on it, and the cubes.

import { noise } from "./island.js";

const shades = new Map(); // colour → [top, left, right, dark]
/** Half the width of a cell, in px, from which cubes have faces. */
export const FACED = 16;
const HEIGHTS = { online: 1.16, dnd: 1.16, idle: 0.56, offline: 0.1 };

export const themes = {
  light: {
    grass: ["#b7cf86", "#c0d68f", "#aec97d"],
    left: "#a9794f", right: "#8d5f3f", rim: "#93b163",
    leaf: ["#7fa35c", "#6b8f4c", "#587b3f"], bloom: "#f2785c", eye: "#2a1b2e",
    sky: "clouds", shadow: "rgb(60 50 20 / 22%)", glow: null, band: "#d13a2f", crowd: "#d8cbb0",
  },
  dark: {
    grass: ["#2f4a4a", "#345252", "#2b4444"],
    left: "#33263f", right: "#261b31", rim: "#274040",
    leaf: ["#3f6b58", "#315747", "#274638"], bloom: "#ffb86b", eye: "#1b1220",
    sky: "stars", shadow: "rgb(0 0 0 / 35%)", glow: "rgb(255 214 130 / 15%)", band: "#ff6b5e", crowd: "#5d5577",
  },
};

/** What is above: clouds at noon, stars and a moon at night. */
export function drawSky(ctx, width, height, theme) {
  if (theme.sky === "clouds") {
    ctx.fillStyle = "rgb(255 255 255 / 55%)";
    for (let each = 0; each < 5; each += 1) {
      const x = noise(each, 1, 31) * width;
      const y = height * (0.06 + 0.55 * noise(each, 2, 31));
      const size = 9 + 9 * noise(each, 3, 31);
      for (const [dx, dy, wide] of [[0, 0, 9], [1, -1, 5], [2, -2, 2], [-2, 1, 8]]) {
        ctx.fillRect(Math.round(x + dx * size), Math.round(y + dy * size), wide * size, size);
      }
    }
    return;
  }
  for (let each = 0; each < 90; each += 1) {
    const size = noise(each, 3, 41) > 0.9 ? 3 : 2;
    ctx.fillStyle = `rgb(255 240 214 / ${Math.round(20 + 60 * noise(each, 4, 41))}%)`;
    const x = noise(each, 1, 41) * width;
    const y = noise(each, 2, 41) ** 1.4 * height;
    ctx.fillRect(Math.round(x), Math.round(y), size, size);
  }
  moon(ctx, width - Math.min(110, width * 0.16), 34, Math.min(7, width / 80));
}

function moon(ctx, x, y, size) {
  const rows = [[2, 4], [1, 6], [0, 8], [0, 8], [0, 8], [0, 8], [1, 6], [2, 4]];
  rows.forEach(([start, long], row) => {
    ctx.fillStyle = "#f6e7bf";
    ctx.fillRect(x + start * size, y + row * size, long * size + 0.5, size + 0.5);
  });
  ctx.fillStyle = "#dcc794";
  for (const [dx, dy] of [[2, 2], [3, 2], [5, 4], [2, 5], [5, 5]]) {
    ctx.fillRect(x + dx * size, y + dy * size, size + 0.5, size + 0.5);
  }
}

/** One cell of earth; its sides where nothing is before it. */
export function drawCell(ctx, island, cell, theme) {
  const { w } = island;
  const [x, y] = island.point(cell);
  const h = w / 2;
  const open = [!island.neighbour(cell, 0, 1), !island.neighbour(cell, 1, 0)];
  const deep = w * (0.7 + 0.5 * noise(cell.x, cell.y, 5));
  if (open[0]) face(ctx, theme.left, x - w, y, x, y + h, deep);
  if (open[1]) face(ctx, theme.right, x, y + h, x + w, y, deep);
  if (w > 5) {
    if (open[0]) face(ctx, theme.rim, x - w, y, x, y + h, w * 0.14);
    if (open[1]) face(ctx, theme.rim, x, y + h, x + w, y, w * 0.14);
  }
  const tone = theme.grass[Math.floor(noise(cell.x, cell.y, 1) * theme.grass.length)];
  diamond(ctx, tone, x, y, w + 0.4);
  if (cell.seat || w < 8) return;
  if (cell.wild < 0.3) grow(ctx, x, y, w, cell, theme);
  else if (cell.wild > 0.8) bloom(ctx, x, y, w, cell, theme);
}

function grow(ctx, x, y, w, cell, theme) {
  const s = w * (0.26 + 0.2 * cell.wild);
  block(ctx, theme.leaf, x, y + w * 0.04, s, s * 1.2);
  block(ctx, theme.leaf, x, y + w * 0.04 - s * 1.2, s * 0.62, s * 0.7);
}

function bloom(ctx, x, y, w, cell, theme) {
  ctx.fillStyle = theme.bloom;
  const size = Math.max(1.5, w * 0.09);
  for (let each = 0; each < 3; each += 1) {
    const dx = (noise(cell.x, cell.y, 11 + each) - 0.5) * w;
    const dy = (noise(cell.x, cell.y, 21 + each) - 0.5) * w * 0.5;
    ctx.fillRect(x + dx, y + dy - size, size, size);
  }
}

/** A tile of earth, for who speaks in front of a crowd. */
export function drawTile(ctx, x, y, w, theme) {
  face(ctx, theme.left, x - w, y, x, y + w / 2, w * 0.5);
  face(ctx, theme.right, x, y + w / 2, x + w, y, w * 0.5);
  face(ctx, theme.rim, x - w, y, x, y + w / 2, w * 0.14);
  face(ctx, theme.rim, x, y + w / 2, x + w, y, w * 0.14);
  diamond(ctx, theme.grass[0], x, y, w);
}

/** A member at that point; `blink` closes the eyes. In a crowd only roles have colours. */
export function drawCube(ctx, member, x, y, w, theme, blink = false, lift = 0, isCrowd = false) {
  const [top, left, right] = shadesOf(isCrowd && !member.hasRole ? theme.crowd : member.colour);
  const s = w * 0.64;
  const high = s * HEIGHTS[member.status];
  const asleep = member.status === "offline";
  if (w < 4) return speck(ctx, member, [top, left, right], x, y, w);
  ctx.globalAlpha = asleep ? 0.5 : 1;
  if (theme.glow && member.status === "online" && w > 8) diamond(ctx, theme.glow, x, y, w * 1.25);
  if (!asleep) diamond(ctx, theme.shadow, x + w * 0.08, y + w * 0.05, s * (1.08 - lift / w / 3));
  const foot = y - lift;
  block(ctx, [top, left, right], x, foot, s, high);
  if (member.status === "dnd" && w > 5) {
    band(ctx, theme.band, x, foot, s, high);
  }
  ctx.globalAlpha = 1;
  if (!asleep && w >= FACED) eyes(ctx, theme.eye, member, x, foot, s, high, blink);
}

function speck(ctx, member, [top, left], x, y, w) {
  const size = Math.max(1.4, w);
  ctx.globalAlpha = { offline: 0.3, idle: 0.7 }[member.status] ?? 1;
  ctx.fillStyle = left;
  ctx.fillRect(x - size / 2, y - size * 0.6, size, size * 1.1);
  ctx.fillStyle = top;
  ctx.fillRect(x - size / 2, y - size * 0.8, size, size * 0.5);
  ctx.globalAlpha = 1;
}

function eyes(ctx, colour, member, x, y, s, high, blink) {
  const right = looksRight(member);
  const shut = blink || member.status === "idle";
  ctx.fillStyle = colour;
  for (const u of [0.24, 0.58]) {
    const low = 0.42;
    const tall = shut ? 0.08 : 0.3;
    const wide = 0.2;
    ctx.beginPath();
    for (const [du, v] of [[0, low], [wide, low], [wide, low + tall], [0, low + tall]]) {
      const along = u + du;
      const px = right ? x + along * s : x - along * s;
      ctx.lineTo(px, y + s / 2 - (along * s) / 2 - v * high);
    }
    ctx.fill();
  }
}

/** The box around the eyes of a member at that point. */
export function faceOf(member, x, y, w) {
  const s = w * 0.64;
  const high = s * HEIGHTS[member.status];
  const [left, right] = looksRight(member) ? [0.2, 0.82] : [-0.82, -0.2];
  const [top, bottom] = [y + s * 0.11 - high * 0.74, y + s * 0.38 - high * 0.4];
  return { left: x + left * s, right: x + right * s, top, bottom };
}

/** Which way a member looks; the same for the same uid. */
export function looksRight(member) {
  return (member.uid.charCodeAt(member.uid.length - 1) + member.uid.length) % 3 !== 0;
}

function band(ctx, colour, x, y, s, high) {
  const tall = high * 0.16;
  face(ctx, colour, x - s, y - high + high * 0.12, x, y + s / 2 - high + high * 0.12, tall);
  face(ctx, colour, x, y + s / 2 - high + high * 0.12, x + s, y - high + high * 0.12, tall);
}

function block(ctx, [top, left, right], x, y, s, high) {
  face(ctx, left, x - s, y - high, x, y + s / 2 - high, high);
  face(ctx, right, x, y + s / 2 - high, x + s, y - high, high);
  diamond(ctx, top, x, y - high, s);
}

function face(ctx, colour, x1, y1, x2, y2, high) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.lineTo(x2, y2 + high);
  ctx.lineTo(x1, y1 + high);
  ctx.fill();
}

function diamond(ctx, colour, x, y, s) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.moveTo(x, y - s / 2);
  ctx.lineTo(x + s, y);
  ctx.lineTo(x, y + s / 2);
  ctx.lineTo(x - s, y);
  ctx.fill();
}

function shadesOf(colour) {
  let found = shades.get(colour);
  if (!found) {
    const parts = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
    const mixed = (toward, share) =>
      `rgb(${parts.map((part) => Math.round(part + (toward - part) * share)).join(" ")})`;
    found = [mixed(255, 0.28), mixed(20, 0.06), mixed(20, 0.3)];
    if (shades.size > 5000) shades.clear();
    shades.set(colour, found);
  }
  return found;
}

/** How high a member stands above the cell, in halves of its width. */
export function heightOf(member) {
  return 0.64 * HEIGHTS[member.status];
}
