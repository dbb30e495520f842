// Two minutes of events as little piles of blocks.

const BINS = 60;
const BIN = 2000; // ms
const WIDTH = 240 / BINS;
const HIGH = 8; // blocks

import { number, say } from "./words.js";

export class Spark {
  constructor() {
    this.svg = document.querySelector("#spark");
    this.path = this.svg.querySelector("path");
    this.rate = document.querySelector("#rate");
    this.bins = new Array(BINS).fill(0);
    this.at = 0;
    setInterval(() => this.#turn(), BIN);
  }

  /** Something happened. */
  count() {
    this.bins[BINS - 1] += 1;
  }

  /** Nothing that was counted belongs to what is shown now. */
  clear() {
    this.bins.fill(0);
    this.#draw();
  }

  #turn() {
    this.#draw();
    this.bins.shift();
    this.bins.push(0);
  }

  #draw() {
    if (document.hidden) return;
    const sum = this.bins.reduce((all, bin) => all + bin, 0);
    const most = Math.max(...this.bins);
    const unit = Math.max(1, Math.sqrt(most) / HIGH);
    let drawn = "";
    this.bins.forEach((bin, index) => {
      const blocks = Math.min(HIGH, Math.ceil(Math.sqrt(bin) / unit));
      for (let each = 0; each < Math.max(1, blocks); each += 1) {
        const high = blocks ? 3 : 1;
        drawn += `M${index * WIDTH + 0.5} ${31 - each * 4}h3v-${high}h-3z`;
      }
    });
    if (this.path.getAttribute("d") === drawn) return; // nothing to paint
    this.path.setAttribute("d", drawn);
    this.rate.textContent = number(sum);
    this.svg.setAttribute("aria-label", say("{0} events in the last two minutes", number(sum)));
  }
}
