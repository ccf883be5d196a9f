/** Shrinks a failing run: first to fewer decisions, then to smaller ones, as long as it fails. */
import type { Decision } from './choices.ts';
import { type FaultFamily, picksAt } from './drawn-faults.ts';
import type { Run } from './explore.ts';

/** In runs of ordinary length, so that the result does not depend on the machine's speed. */
const maxRuns = 250;
const maxRunsAlone = 300;
const ordinaryLines = 2_000;

/** The remaining work that may be spent on a failure. */
export interface Budget {
  runs: number;
}

/** The part of a budget that a run costs; long runs cost more. */
export function costOf({ lines }: Run): number {
  return Math.max(1, lines.length / ordinaryLines);
}

/**
 * @param run a failing run
 * @param alternatives decisions that may simplify a run, each tried separately in this order
 * @param families the available kinds of faults
 * @param play plays a plan
 * @param budget the maximum work to spend
 * @param isAborted true if it should stop
 */
export async function shrink(
  run: Run,
  alternatives: readonly Decision[],
  families: ReadonlySet<FaultFamily>,
  play: (plan: readonly Decision[]) => Promise<Run>,
  budget: Budget,
  isAborted: () => boolean,
): Promise<Run> {
  let left = maxRuns;
  const isOver = () => left <= 0 || budget.runs <= 0 || isAborted();
  let best = run;
  const kind = kindOf(run);
  /** Decisions that a run made beyond its plan count as little as planned ones that were never drawn. */
  const attempt = async (plan: readonly Decision[]): Promise<boolean> => {
    if (isOver()) return false;
    const next = await play(plan);
    left -= costOf(next);
    budget.runs -= costOf(next);
    if (next.problems.length === 0 || kindOf(next) !== kind) return false;
    best = next;
    return true;
  };

  await attempt([]);
  for (const alternative of alternatives) if (await attempt([alternative, ...best.decisions])) break;
  // Order and jitter rarely matter; faults and operations do.
  const matters = ({ point }: Decision) => point.startsWith('op.') || /^w\d+\./.test(point) || point === 'workers';
  await attempt(best.decisions.filter(matters));
  for (let before = -1; before !== measure(best.decisions) && !isOver(); ) {
    before = measure(best.decisions);
    // Removes whole points, then halves, quarters … of the rest, starting at the end.
    for (const point of new Set(best.decisions.map((decision) => decision.point)))
      await attempt(best.decisions.filter((decision) => decision.point !== point));
    for (let size = Math.ceil(best.decisions.length / 2); size >= 1 && !isOver(); size = size > 1 ? Math.ceil(size / 2) : 0) {
      for (let end = best.decisions.length; end > 0; end -= size) {
        const from = Math.max(0, end - size);
        if (from >= best.decisions.length) continue;
        await attempt([...best.decisions.slice(0, from), ...best.decisions.slice(end)]);
      }
    }
    // Smaller picks: an earlier entry of a list, a smaller number.
    for (let i = 0; i < best.decisions.length; i++) {
      const { point, n, pick } = best.decisions[i] as Decision;
      for (const lesser of [1, Math.floor(pick / 2), pick - 1]) {
        if (lesser < 1 || lesser >= pick || point === 'workers') continue;
        if (await attempt(best.decisions.map((decision, at) => (at === i ? { point, n, pick: lesser } : decision)))) break;
      }
    }
    // Prefers the first worker.
    for (let i = 0; i < best.decisions.length; i++) {
      const { point, n, pick } = best.decisions[i] as Decision;
      const first = point.replace(/^w\d+\./, 'w0.');
      if (first === point || best.decisions.some((other) => other.point === first)) continue;
      await attempt(best.decisions.map((decision, at) => (at === i ? { point: first, n, pick } : decision)));
    }
    // Prefers earlier draws at the same point: what happens sooner needs less before it.
    for (let i = 0; i < best.decisions.length; i++) {
      const { point, n, pick } = best.decisions[i] as Decision;
      for (const sooner of [0, Math.floor(n / 2)]) {
        if (sooner >= n || best.decisions.some((other) => other.point === point && other.n === sooner)) continue;
        const moved = best.decisions.map((decision, at) => (at === i ? { point, n: sooner, pick } : decision));
        if (await attempt(moved)) break;
      }
    }
  }
  // A single fault in the right place may suffice, and there are few such places.
  if (best.decisions.some(({ point }) => point.startsWith('op.'))) return best;
  left = Math.min(left, maxRunsAlone);
  const points = new Map<string, number>();
  for (const [point, count] of [...run.drawn].sort())
    for (const name of [point.replace(/^w\d+\./, 'w0.'), point]) points.set(name, Math.max(points.get(name) ?? 0, count));
  for (let n = 0; n < 3 && best.decisions.length > 1; n++)
    for (const [point, count] of points)
      for (const pick of n < count ? picksAt(point, families) : []) if (best.decisions.length > 1) await attempt([{ point, n, pick }]);
  return best;
}

/**
 * The kind of a failure, whichever job it affects and whatever its numbers: a smaller run that fails differently is another failure.
 * Findings of the invariant checker are of two kinds, because one fault has many symptoms: something happened that must not (safety), or
 * something did not happen that must (liveness).
 */
export function kindOf({ problems, error }: Run): string {
  const [first = ''] = (problems[0] ?? '').split('\n', 1);
  const law = /(?:^|: )(?:(L)\d+|I\d+|E\d+|law \d+): /.exec(first);
  if (law) return law[1] ? 'liveness' : 'safety';
  // The location of the error is more specific than its message, which contains values.
  const site = error instanceof Error ? /^ +at .*$/m.exec(error.stack ?? '')?.[0] : undefined;
  const [name = ''] = first.split(':', 1);
  return site === undefined ? first.replace(/[\w.-]+#\d+/g, '').replace(/\d+/g, '0') : `${name}${site}`;
}

/** The size of a run; smaller is simpler. */
function measure(decisions: readonly Decision[]): number {
  return decisions.reduce((sum, { point, n, pick }) => sum + 1e9 + (/^w[1-9]/.test(point) ? 1e6 : 0) + n * 1e3 + Math.min(pick, 999), 0);
}
