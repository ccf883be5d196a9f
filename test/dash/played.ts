/** The shop in virtual time, driven like `escapement dev --virtual`, and the dashboard's state at an instant. */
import { memory, type Tasks } from 'escapement';
import type { SimulationModule } from '../../cli/config.ts';
import { Feed } from '../../cli/dash/feed.ts';
import { press } from '../../cli/dash/keys.ts';
import { reduce } from '../../cli/dash/reduce.ts';
import { requestOf, Source } from '../../cli/dash/source.ts';
import { initialState, type State } from '../../cli/dash/state.ts';
import { VirtualRun } from '../../cli/dash/virtual.ts';

const realImmediate = setImmediate;
const yieldToEventLoop = () => new Promise<void>((resolve) => realImmediate(resolve));

export interface Played {
  readonly run: VirtualRun;
  readonly feed: Feed;
  /** Presses keys, then reads the view's data. */
  look(size: { columns: number; rows: number }, ...keys: string[]): Promise<State>;
  to(at: string): Promise<void>;
  end(): Promise<void>;
}

/** Real time stands still, so that a slice ends only at its goal. */
export async function played(tasks: Tasks, module: SimulationModule, from: string, seed = 7): Promise<Played> {
  const feed = new Feed();
  const off = tasks.on('*', feed.add);
  const faults: unknown[] = [];
  const run = await VirtualRun.begin(
    tasks,
    module,
    {
      from: Date.parse(from),
      speed: 60,
      seed,
      workers: 2,
      concurrency: 10,
      store: memory(),
      playing: false,
      recorded: [],
      startedAt: Date.parse(from),
    },
    { realNow: () => 0, yieldToEventLoop, feed, failed: (error) => faults.push(error) },
  );
  const source = new Source(tasks, {
    now: () => run.now,
    feed,
    hasEvents: true,
    shared: false,
    cwd: process.cwd(),
  });
  const drive = async () => {
    do await run.slice();
    while (run.clock.until !== null);
    if (faults.length > 0) throw faults[0];
  };
  return {
    run,
    feed,
    async to(at) {
      run.order({ kind: 'until', at: Date.parse(at) });
      await drive();
    },
    async look({ columns, rows }, ...keys) {
      let state = initialState({
        columns,
        rows,
        label: 'fixtures/shop/tasks.ts',
        write: true,
        clock: run.clock,
        zone: 'UTC',
        now: run.now,
      });
      const read = async () => {
        state = reduce(state, { type: 'read', now: run.now, clock: run.clock, data: await source.read(requestOf(state)) });
      };
      await read();
      for (const key of keys) {
        state = press(state, key);
        await read();
      }
      return state;
    },
    async end() {
      off();
      await run.end();
    },
  };
}
