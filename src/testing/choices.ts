/**
 * Every choice that a simulation makes: one whole number drawn at a named point, 0 meaning first in, first out, no jitter, no fault.
 * Without a seed every choice is 0.
 */
import type { Random } from '../ports/random.ts';

/** A generator of 32-bit numbers (sfc32 by Chris Doty-Humphrey, PractRand), seeded by SplitMix-like mixing. Small, fast, and good enough for choices. */
export function prng(seed: number): () => number {
  let a = 0x9e3779b9 ^ seed;
  let b = 0x243f6a88 ^ Math.floor(seed / 4_294_967_296);
  let c = 0xb7e15162;
  let counter = 1;
  const next = () => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 15; i++) next();
  return next;
}

const resolution = 4_294_967_296;

export class Choices implements Random {
  readonly seed: number | undefined;
  readonly #draw: (() => number) | undefined;
  readonly #bytes: () => number;

  constructor(seed: number | undefined) {
    this.seed = seed;
    this.#draw = seed === undefined ? undefined : prng(seed);
    // Ids need bits even where no choice is drawn; a stream of their own keeps the choices independent of how many ids were made.
    this.#bytes = prng((seed ?? 0) + 0.5 * resolution);
  }

  /** One of `count` possibilities. */
  choose(_point: string, count: number): number {
    return this.#draw && count > 1 ? Math.floor((this.#draw() / resolution) * count) : 0;
  }

  fraction(_point: string): number {
    return this.#draw ? this.#draw() / resolution : 0;
  }

  fill(bytes: Uint8Array<ArrayBuffer>): void {
    let word = 0;
    for (let i = 0; i < bytes.length; i++) {
      if (i % 4 === 0) word = this.#bytes();
      bytes[i] = word >>> ((i % 4) * 8);
    }
  }
}
