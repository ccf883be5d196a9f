/** Plays the shop with crashes and a failing store, drawn from a seed, and returns the trace. */
import { simulate } from 'escapement/testing';
import { simulation, tasks } from '../../fixtures/shop/tasks.ts';
import { prng } from '../../src/testing/choices.ts';

class End extends Error {}

/** The trace of the shop's first `hours` hours with this seed. */
export async function playShop(seed: number, hours: number): Promise<string> {
  const draw = prng(seed ^ 0x5eed);
  const sim = await simulate(tasks, { now: simulation.now, seed, workers: 3 });
  const endAt = sim.startedAt.getTime() + hours * 3_600_000;
  const cause = (): void => {
    const what = draw() % 100;
    if (what < 4) sim.worker(draw() % 3).crash();
    else if (what < 6) sim.worker(draw() % 3).pauseFor(`${1 + (draw() % 90)}s`);
    else if (what < 9)
      sim.store.fail('busy', { times: 1 + (draw() % 3), on: (['claim', 'settle', 'renew', 'overdue'] as const)[draw() % 4] ?? 'claim' });
  };
  // The shop's play, cut off at the end, with a rare fault at every step.
  const world = new Proxy(sim, {
    get(target, key) {
      if (key === 'advanceTo') {
        return async (instant: string) => {
          const at = Math.min(Date.parse(instant), endAt);
          await target.advanceTo(at);
          if (at === endAt) throw new End();
          cause();
        };
      }
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  try {
    await simulation.play(world);
  } catch (error) {
    if (!(error instanceof End)) throw error;
  }
  await sim.advanceTo(endAt);
  simulation.expect(sim);
  const trace = String(sim.timeline());
  await sim.end();
  return trace;
}
