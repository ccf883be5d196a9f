/**
 * Every choice that a simulation makes: one whole number drawn at a named point, 0 meaning first in, first out, no jitter, no fault.
 * Without a seed every choice is 0. A run is told whole by its choices that are not 0: whoever gives them again, gets the run again.
 */
import { textHash } from '../core/schedule.ts';
import { scope as currentScope } from '../engine/scope.ts';
import type { Scope } from '../ports/clock.ts';
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

/**
 * Math.random for tasks' code. Once real time has passed, every attempt has numbers of its own, so that it does not matter who asks first.
 * @param isOrdered true while no real time has passed
 */
export function randomOf(seed: number, isOrdered: () => boolean): () => number {
  const shared = prng(seed + 1);
  const streams = new WeakMap<Scope, () => number>();
  return () => {
    let scope = isOrdered() ? undefined : currentScope.getStore();
    while (scope?.parent) scope = scope.parent;
    if (!scope) return shared() / resolution;
    let draw = streams.get(scope);
    if (!draw) {
      draw = prng(seed + 1 + Number.parseInt(textHash(`${scope.id} ${scope.claim}`).slice(0, 8), 16));
      streams.set(scope, draw);
    }
    return draw() / resolution;
  };
}

/** A choice that is not 0: the `n`-th at its point, counted from 0. */
export interface Decision {
  readonly point: string;
  readonly n: number;
  readonly pick: number;
}

/** How the choices of a run are made, beyond its seed. */
export interface ChoiceOptions {
  /** Only these; all others are 0. The seed then draws no choice, but still ids and `Math.random`. */
  readonly plan?: readonly Decision[] | undefined;
  /** Keep what was chosen. */
  readonly log?: boolean;
  /** Told of every choice, and of how many there were. */
  readonly drew?: ((point: string, count: number, pick: number) => void) | undefined;
}

export class Choices implements Random {
  readonly seed: number | undefined;
  readonly #draw: (() => number) | undefined;
  readonly #bytes: () => number;
  readonly #plan: ReadonlyMap<string, ReadonlyMap<number, number>> | undefined;
  readonly #counts: Map<string, number> | undefined;
  readonly decisions: Decision[] = [];
  readonly #drew: ChoiceOptions['drew'];
  /** Neither drawn nor kept: every choice is 0. */
  readonly #isPlain: boolean;

  constructor(seed: number | undefined, { plan, log = false, drew }: ChoiceOptions = {}) {
    this.#drew = drew;
    this.seed = seed;
    this.#draw = seed === undefined || plan ? undefined : prng(seed);
    // Ids need bits even where no choice is drawn; a stream of their own keeps the choices independent of how many ids were made.
    this.#bytes = prng((seed ?? 0) + 0.5 * resolution);
    if (plan) {
      const points = Map.groupBy(plan, ({ point }) => point);
      this.#plan = new Map([...points].map(([point, picks]) => [point, new Map(picks.map(({ n, pick }) => [n, pick]))]));
    }
    this.#counts = plan || log ? new Map() : undefined;
    this.#isPlain = !this.#counts && !this.#draw;
  }

  /** True if some choice may not be 0. */
  get draws(): boolean {
    return !this.#isPlain;
  }

  /** How often each point was drawn, where that is kept. */
  get drawn(): ReadonlyMap<string, number> {
    return this.#counts ?? new Map();
  }

  /** One of `count` possibilities. */
  choose(point: string, count: number): number {
    if (count <= 1 || this.#isPlain) return 0;
    return this.#decide(point, count, (draw) => Math.floor((draw() / resolution) * count));
  }

  fraction(point: string): number {
    return this.#isPlain ? 0 : this.#decide(point, resolution, (draw) => draw()) / resolution;
  }

  /** One of several things that mostly do not happen: 0, or the place of one whose weight was drawn, counted from 1. Weights are probabilities. */
  rare(point: string, weights: readonly number[]): number {
    return this.#decide(point, weights.length + 1, (draw) => {
      let left = draw() / resolution;
      for (let i = 0; i < weights.length; i++) {
        left -= weights[i] as number;
        if (left < 0) return i + 1;
      }
      return 0;
    });
  }

  fill(bytes: Uint8Array<ArrayBuffer>): void {
    let word = 0;
    for (let i = 0; i < bytes.length; i++) {
      if (i % 4 === 0) word = this.#bytes();
      bytes[i] = word >>> ((i % 4) * 8);
    }
  }

  #decide(point: string, count: number, from: (draw: () => number) => number): number {
    if (!this.#counts) return this.#draw ? from(this.#draw) : 0;
    const n = this.#counts.get(point) ?? 0;
    this.#counts.set(point, n + 1);
    // A plan that was made for another course of things may ask for what there is no longer.
    const pick = this.#plan ? Math.min(this.#plan.get(point)?.get(n) ?? 0, count - 1) : this.#draw ? from(this.#draw) : 0;
    this.#drew?.(point, count, pick);
    if (pick !== 0) this.decisions.push({ point, n, pick });
    return pick;
  }
}

/** A seed and decisions as one word, for an environment variable: `7/w0.settle:3=1,tie:12=2`. */
export function encodeRun(seed: number, decisions: readonly Decision[]): string {
  return `${seed}/${decisions.map(({ point, n, pick }) => `${point}:${n}=${pick}`).join(',')}`;
}

/** What `encodeRun` wrote, or undefined if it is something else. */
export function decodeRun(text: string): { readonly seed: number; readonly plan: readonly Decision[] } | undefined {
  const match = /^(\d+)\/(.*)$/.exec(text.trim());
  if (!match) return undefined;
  const plan: Decision[] = [];
  for (const part of (match[2] as string).split(',').filter((one) => one !== '')) {
    const decision = /^([\w.-]+):(\d+)=(\d+)$/.exec(part);
    if (!decision) return undefined;
    plan.push({ point: decision[1] as string, n: Number(decision[2]), pick: Number(decision[3]) });
  }
  return { seed: Number(match[1]), plan };
}
