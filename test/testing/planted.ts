/**
 * Planted bugs, which verify that explorations find them. Bugs in the store are below the invariant checker; bugs in the engine change the
 * calls from workers to the store, or their results.
 */
import type { Store } from 'escapement';
import { endedAsCancelled } from '../../src/core/changes.ts';
import { settled } from '../../src/core/job.ts';
import type { Job, Settlement } from '../../src/core/types.ts';
import type { Advance, ClaimOptions } from '../../src/ports/store.ts';
import { MemoryStore } from '../../src/stores/memory/store.ts';

type At = { readonly now: number };

/** The store with some of its methods replaced. */
function mutant<S extends Store>(store: S, changes: Record<string, unknown>): Store {
  return new Proxy(store as Store, {
    get(target, key) {
      if (Object.hasOwn(changes, key)) return changes[key as string];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

export interface Planted {
  readonly bug: string;
  /** A bug in the store. */
  readonly store?: (store: MemoryStore) => Store;
  /** A bug in the engine, injected through its store. */
  readonly engine?: (store: Store) => Store;
}

const rewritten = (rewrite: (settlement: Settlement, now: number) => Settlement) => (store: Store) =>
  mutant(store, {
    settle: (settlements: readonly Settlement[], options: At) =>
      store.settle(
        settlements.map((one) => rewrite(one, options.now)),
        options,
      ),
  });

export const planted: readonly Planted[] = [
  {
    bug: 'settle is not fenced: it accepts outcomes of any claim',
    store: (store) =>
      mutant(store, {
        settle: (settlements: readonly Settlement[], options: At) =>
          store.settle(
            settlements.map((one) => ({ ...one, claim: store.get([one.id])[0]?.job.claim ?? one.claim })),
            options,
          ),
      }),
  },
  {
    bug: 'renew is not fenced: it renews leases of any claim',
    store: (store) =>
      mutant(store, {
        renew: (held: readonly { id: string; claim: number }[], options: { now: number; leaseUntil: number }) =>
          store.renew(
            held.map((one) => ({ ...one, claim: store.get([one.id])[0]?.job.claim ?? one.claim })),
            options,
          ),
      }),
  },
  {
    bug: 'a lease ends early: it is compared with a later instant',
    store: (store) =>
      mutant(store, {
        overdue: (options: At & { limit: number }) => store.overdue({ ...options, now: options.now + 8_000 }),
        nextDueAt: (options: At & { tasks: readonly string[] }) => {
          const { jobAt, overdueAt } = store.nextDueAt(options);
          return { jobAt, overdueAt: overdueAt === null ? null : overdueAt - 8_000 };
        },
      }),
  },
  {
    bug: 'an occurrence creates two jobs when two schedulers race',
    store: (store) =>
      mutant(store, {
        advanceSchedules: (advances: readonly Advance[], options: At) =>
          advances.map((advance) => {
            const [made] = store.advanceSchedules([advance], options);
            if (made) return made;
            const jobs = advance.jobs.map((job) => ({ ...job, schedule: null }));
            store.insert(jobs, options);
            return advance.jobs;
          }),
      }),
  },
  {
    bug: 'a batch claim loses the other jobs',
    store: (store) =>
      mutant(store, {
        claim: (options: ClaimOptions & At) => store.claim(options).slice(0, 1),
        settle: (settlements: readonly Settlement[], options: At) => {
          const answer = store.settle(settlements, options);
          return { ...answer, claimed: answer.claimed.slice(0, 1) };
        },
      }),
  },
  {
    bug: 'the cancellation of a running job is dropped on renewal',
    store: (store) =>
      mutant(store, {
        renew: (held: never, options: never) =>
          store.renew(held, options).map((answer) => (answer.kind === 'cancelled' ? { kind: 'held' } : answer)),
      }),
  },
  {
    bug: 'a cancellation is lost when it races a failure',
    store: (store) =>
      mutant(store, {
        settle: (settlements: readonly Settlement[], options: At) => {
          const answer = store.settle(settlements, options);
          settlements.forEach((settlement, i) => {
            const job = answer.settled[i];
            if (job && endedAsCancelled(job, settlement))
              store.amend(
                [
                  {
                    id: job.id,
                    expect: { status: job.status, claim: job.claim },
                    set: { status: 'queued', finishedAt: null, reason: null },
                  },
                ],
                options,
              );
          });
          return {
            ...answer,
            settled: answer.settled.map((job, i) =>
              job && endedAsCancelled(job, settlements[i] as Settlement)
                ? { ...job, status: 'queued', finishedAt: null, reason: null }
                : job,
            ),
          };
        },
      }),
  },
  {
    bug: 'jobs are claimed two seconds early',
    store: (store) => mutant(store, { claim: (options: ClaimOptions & At) => store.claim({ ...options, now: options.now + 2_000 }) }),
  },
  {
    bug: 'a batch of enqueues is not atomic: the last job is lost',
    store: (store) =>
      mutant(store, { insert: (jobs: readonly never[], options: At) => store.insert(jobs.length > 2 ? jobs.slice(0, -1) : jobs, options) }),
  },
  {
    bug: 'a failed attempt is not counted',
    engine: rewritten((one) => (one.outcome === 'failed' && one.status === 'queued' ? { ...one, attempt: one.attempt - 1 } : one)),
  },
  {
    bug: 'a retry loses its due time',
    engine: rewritten((one) => (one.outcome === 'failed' && one.status === 'queued' ? { ...one, dueAt: one.settledAt } : one)),
  },
  {
    bug: 'a snooze gives back two attempts',
    engine: rewritten((one) => (one.outcome === 'snoozed' ? { ...one, attempt: one.attempt - 1 } : one)),
  },
  {
    bug: 'lost leases are not counted: a job that kills its workers is never failed',
    engine: rewritten((one) => (one.outcome === 'lost' ? { ...one, losses: 0, status: 'queued', reason: null } : one)),
  },
  {
    bug: 'a schedule advances from the current time instead of its occurrence',
    engine: (store) =>
      mutant(store, {
        advanceSchedules: (advances: readonly Advance[], options: At) =>
          store.advanceSchedules(
            advances.map((advance) => ({
              ...advance,
              times: { ...advance.times, nextAt: advance.times.nextAt === null ? null : options.now + 60_000 },
            })),
            options,
          ),
      }),
  },
  {
    bug: 'the heartbeat stops before the attempts of the worker have ended',
    engine: (store) => {
      let stopping = false;
      return mutant(store, {
        saveWorker: (row: { state: string }, options: never) => {
          stopping ||= row.state === 'stopping';
          return store.saveWorker(row as never, options);
        },
        renew: (held: readonly unknown[], options: never) =>
          stopping ? held.map(() => ({ kind: 'held' })) : store.renew(held as never, options),
      });
    },
  },
  {
    bug: 'only one of several outcomes is settled; the others are dropped',
    engine: (store) =>
      mutant(store, {
        settle: async (settlements: readonly Settlement[], options: At) => {
          const answer = await store.settle(settlements.slice(0, 1), options);
          const held = await store.get(settlements.map(({ id }) => id));
          return { ...answer, settled: settlements.map((one, i) => answer.settled[i] ?? settled(held[i]?.job as Job, one)) };
        },
      }),
  },
];

export const memoryStore = (): MemoryStore => new MemoryStore();
