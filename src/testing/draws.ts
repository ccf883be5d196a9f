/** The decisions of a run, with when and where each was made, to show where two runs of the same seed diverge. */
import { scope as currentScope } from '../engine/scope.ts';
import { offset } from './record.ts';
import type { Simulation } from './simulation.ts';
import { siteOf, where } from './sites.ts';

interface Draw {
  readonly what: string;
  readonly atMs: number;
  /** The attempt in which it was made. */
  readonly attempt: string | undefined;
  readonly site: Error | undefined;
}

export class Draws {
  readonly all: Draw[] = [];
  #sim: Simulation | undefined;

  readonly begin = (sim: Simulation): void => {
    this.#sim = sim;
  };

  readonly add = (point: string, count: number, pick: number): void => {
    const attempt = currentScope.getStore();
    this.all.push({
      what: `${point}, ${pick} of ${count}`,
      atMs: this.#sim ? this.#sim.now.getTime() - this.#sim.startedAt.getTime() : 0,
      attempt: attempt && `${attempt.task} attempt ${attempt.attempt} on ${attempt.worker}`,
      site: attempt && siteOf(point),
    });
  };
}

/** The first decision that differs between two runs, in both versions. */
export function firstDifference(a: Draws, b: Draws): readonly [string, string] | readonly [undefined, undefined] {
  const longer = a.all.length >= b.all.length ? a.all : b.all;
  const at = longer.findIndex((_, i) => a.all[i]?.what !== b.all[i]?.what || a.all[i]?.atMs !== b.all[i]?.atMs);
  return at < 0 ? [undefined, undefined] : [shown(a.all[at]), shown(b.all[at])];
}

function shown(draw: Draw | undefined): string {
  if (!draw) return 'none';
  const { what, atMs, attempt, site } = draw;
  return `${what}, at ${offset(atMs)}${attempt ? ` in ${attempt}, ${where(site)}` : ''}`;
}
