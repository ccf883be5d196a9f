/**
 * All choices of a simulation: each is a whole number drawn at a named point. 0 means first in, first out, no jitter, no fault; without a
 * seed every choice is 0. The non-zero choices determine a run completely, so making them again replays it.
 */
import { textHash } from '../core/schedule.ts';
import { scope as currentScope } from '../engine/scope.ts';
import type { Scope } from '../ports/clock.ts';
import type { Random } from '../ports/random.ts';

/**
 * A generator of 32-bit numbers (sfc32 by Chris Doty-Humphrey, PractRand), seeded by SplitMix-like mixing. Small, fast, and sufficient for
 * choices.
 */
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
 * Math.random for task code. Once real time has passed, every attempt has its own sequence, so the order of calls does not matter.
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

/** A non-zero choice: the `n`-th at its point, counted from 0. */
export interface Decision {
  readonly point: string;
  readonly n: number;
  readonly pick: number;
}

/** How the choices of a run are made, beyond its seed. */
export interface ChoiceOptions {
  /** Makes only these choices; all others are 0. The seed then only determines ids and `Math.random`. */
  readonly plan?: readonly Decision[] | undefined;
  /** Whether to record the choices. */
  readonly log?: boolean;
  /** Called for every choice, with the number of possibilities. */
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
  /** No choices are drawn or recorded: every choice is 0. */
  readonly #isPlain: boolean;

  constructor(seed: number | undefined, { plan, log = false, drew }: ChoiceOptions = {}) {
    this.#drew = drew;
    this.seed = seed;
    this.#draw = seed === undefined || plan ? undefined : prng(seed);
    // Ids need random bits even if no choices are drawn. A separate stream keeps the choices independent of the number of ids.
    this.#bytes = prng((seed ?? 0) + 0.5 * resolution);
    if (plan) {
      const points = Map.groupBy(plan, ({ point }) => point);
      this.#plan = new Map([...points].map(([point, picks]) => [point, new Map(picks.map(({ n, pick }) => [n, pick]))]));
    }
    this.#counts = plan || log ? new Map() : undefined;
    this.#isPlain = !this.#counts && !this.#draw;
  }

  /** True if some choice may be non-zero. */
  get draws(): boolean {
    return !this.#isPlain;
  }

  /** How often each point was drawn, if recorded. */
  get drawn(): ReadonlyMap<string, number> {
    return this.#counts ?? new Map();
  }

  /** Chooses one of `count` possibilities. */
  choose(point: string, count: number): number {
    if (count <= 1 || this.#isPlain) return 0;
    return this.#decide(point, count, (draw) => Math.floor((draw() / resolution) * count));
  }

  fraction(point: string): number {
    return this.#isPlain ? 0 : this.#decide(point, resolution, (draw) => draw()) / resolution;
  }

  /** Chooses among several unlikely events: 0 for none, or the position of the chosen one, counted from 1. The weights are probabilities. */
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
    // A plan made for a different course of events may ask for something that no longer exists.
    const pick = this.#plan ? Math.min(this.#plan.get(point)?.get(n) ?? 0, count - 1) : this.#draw ? from(this.#draw) : 0;
    this.#drew?.(point, count, pick);
    if (pick !== 0) this.decisions.push({ point, n, pick });
    return pick;
  }
}

/** Encodes a seed and decisions as one word for an environment variable: `7/w0.settle:3=1,tie:12=2`. */
export function encodeRun(seed: number, decisions: readonly Decision[]): string {
  return `${seed}/${decisions.map(({ point, n, pick }) => `${point}:${n}=${pick}`).join(',')}`;
}

/** Decodes the output of `encodeRun`; undefined for anything else. */
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
