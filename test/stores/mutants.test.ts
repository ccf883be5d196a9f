/**
 * Verifies that the conformance suite can fail: each of these stores breaks one law in a way that real queues have, and fails a case of
 * that law that the correct store passes.
 */
import { describe, expect, test } from 'vitest';
import { visibleStatus } from '../../src/core/job.ts';
import type { Amendment, Job, QueueRow, Settlement } from '../../src/core/types.ts';
import type { Advance, ClaimOptions, Held, Hint, JobFilter, Store } from '../../src/ports/store.ts';
import { MemoryStore } from '../../src/stores/memory/store.ts';
import { conformanceCases } from '../../src/testing/conformance.ts';

type At = { now: number };
type ClaimAt = ClaimOptions & At;

/** A mutant is the memory store with one method replaced; the replacement can call the original. */
function mutant(change: (sound: MemoryStore) => Partial<Store>): () => Store {
  return () => {
    const sound = new MemoryStore();
    const changed = change(sound);
    return new Proxy<Store>(sound, {
      get(target, key) {
        const value: unknown = Reflect.get(key in changed ? changed : target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  };
}

const rowOf = (store: MemoryStore, id: string) => store.get([id])[0]?.job;

const mutants: readonly (readonly [name: string, law: number | string, open: () => Store])[] = [
  [
    'hands out a job whose lease has expired',
    1,
    mutant((store) => ({
      claim: (options: ClaimAt) => [...store.overdue({ ...options, limit: 1 }), ...store.claim(options)],
    })),
  ],
  [
    'reads jobs before claiming them',
    1,
    mutant((store) => ({
      claim: async (options: ClaimAt) => {
        const { items } = store.list({ status: ['ready'] }, { now: options.now, limit: options.limit });
        await Promise.resolve();
        const mine = store.claim(options);
        return items.map(({ job }) => mine.find(({ id }) => id === job.id) ?? rowOf(store, job.id) ?? job);
      },
    })),
  ],
  [
    'settles without checking the claim number',
    2,
    mutant((store) => ({
      settle: (settlements: readonly Settlement[], options: At) =>
        store.settle(
          settlements.map((s) => ({ ...s, claim: rowOf(store, s.id)?.claim ?? s.claim })),
          options,
        ),
    })),
  ],
  [
    'drops a whole batch because of one stale outcome',
    2,
    mutant((store) => ({
      settle: (settlements: readonly Settlement[], options: At) =>
        settlements.some((s) => rowOf(store, s.id)?.claim !== s.claim)
          ? { settled: settlements.map(() => null), dependents: [], claimed: [] }
          : store.settle(settlements, options),
    })),
  ],
  [
    'reports a settlement as stale that it has already applied',
    'settle',
    mutant((store) => ({
      settle: (settlements: readonly Settlement[], options: At) => {
        const running = settlements.map((s) => rowOf(store, s.id)?.status === 'running');
        const { settled, ...others } = store.settle(settlements, options);
        return { settled: settled.map((job, i) => (running[i] ? job : null)), ...others };
      },
    })),
  ],
  [
    'claims before it settles',
    'settle',
    mutant((store) => ({
      settle: (settlements: readonly Settlement[], options: At & { claim?: ClaimOptions | undefined }) => {
        const claimed = options.claim ? store.claim({ ...options.claim, now: options.now }) : [];
        return { ...store.settle(settlements, { now: options.now }), claimed };
      },
    })),
  ],
  [
    'forgets a cancellation',
    'settle',
    mutant((store) => ({
      amend: (amendments: readonly Amendment[], options: At) =>
        store.amend(
          amendments.map((a) => (a.set?.cancelRequested ? { ...a, set: {} } : a)),
          options,
        ),
    })),
  ],
  [
    'claims from paused queues',
    3,
    mutant((store) => {
      const paused = new Map<string, QueueRow>();
      return {
        saveQueue: (queue: QueueRow) => {
          paused.set(queue.name, queue);
          store.saveQueue(queue);
        },
        claim: (options: ClaimAt) => {
          for (const name of paused.keys()) store.saveQueue({ name, paused: false });
          const jobs = store.claim(options);
          for (const queue of paused.values()) store.saveQueue(queue);
          return jobs;
        },
      };
    }),
  ],
  [
    'claims a millisecond early',
    3,
    mutant((store) => ({ claim: (options: ClaimAt) => store.claim({ ...options, now: options.now + 1 }) })),
  ],
  ['ignores the limit', 3, mutant((store) => ({ claim: (options: ClaimAt) => store.claim({ ...options, limit: 1_000 }) }))],
  ['ignores excluded queues', 3, mutant((store) => ({ claim: (options: ClaimAt) => store.claim({ ...options, excludeQueues: [] }) }))],
  [
    'treats no queues as all queues',
    3,
    mutant((store) => ({ claim: (o: ClaimAt) => store.claim({ ...o, queues: o.queues?.length ? o.queues : undefined }) })),
  ],
  [
    'orders by id only',
    4,
    mutant((store) => ({
      claim: (options: ClaimAt) => [...store.claim(options)].sort((a, b) => (a.id < b.id ? -1 : 1)),
    })),
  ],
  ['returns claimed jobs in reverse order', 4, mutant((store) => ({ claim: (options: ClaimAt) => [...store.claim(options)].reverse() }))],
  [
    'advances a schedule from any revision',
    6,
    mutant((store) => ({
      advanceSchedules: (advances: readonly Advance[], options: At) =>
        advances.flatMap((a) => {
          const row = store.listSchedules().find(({ name }) => name === a.name);
          return store.advanceSchedules([{ ...a, revision: row?.revision ?? a.revision }], options);
        }),
    })),
  ],
  [
    'inserts the jobs of a stale advance',
    6,
    mutant((store) => ({
      advanceSchedules: (advances: readonly Advance[], options: At) => {
        const won = store.advanceSchedules(advances, options);
        for (const [i, { jobs }] of advances.entries()) if (!won[i]) store.insert(jobs, options);
        return won;
      },
    })),
  ],
  [
    'creates a second job for an occurrence',
    6,
    mutant((store) => ({
      advanceSchedules: (advances: readonly Advance[], options: At) =>
        store.advanceSchedules(
          advances.map((a) => ({ ...a, jobs: a.jobs.map((job) => ({ ...job, schedule: `${job.schedule} ${job.id}` })) })),
          options,
        ),
    })),
  ],
  [
    'finds orphans a millisecond early',
    7,
    mutant((store) => ({ overdue: (o: At & { limit: number }) => store.overdue({ ...o, now: o.now + 1 }) })),
  ],
  [
    'treats the end of a lease as inclusive',
    7,
    mutant((store) => ({ overdue: (o: At & { limit: number }) => store.overdue({ ...o, now: o.now - 1 }) })),
  ],
  [
    'tells every worker that it still holds its lease',
    7,
    mutant(() => ({ renew: (held: readonly Held[]) => held.map(() => ({ kind: 'held' }) as const) })),
  ],
  [
    'forgets expired jobs',
    7,
    mutant((store) => ({
      overdue: (options: At & { limit: number }) => store.overdue(options).filter(({ status }) => status === 'running'),
    })),
  ],
  [
    'counts retries as scheduled',
    9,
    mutant((store) => ({
      stats: (options: At) =>
        store.stats(options).map((queue) => {
          const { scheduled, retrying } = queue.counts;
          return { ...queue, counts: { ...queue.counts, scheduled: scheduled + retrying, retrying: 0 } };
        }),
    })),
  ],
  ['reads the system clock', 10, mutant((store) => ({ claim: (o: ClaimAt) => store.claim({ ...o, leaseUntil: Date.now() + 30_000 }) }))],
  [
    'inserts jobs separately, up to the first conflict',
    11,
    mutant((store) => ({
      insert: (jobs: readonly Job[], options: At) => {
        for (const job of jobs) store.insert([job], options);
      },
    })),
  ],
  [
    'loses the last job of a batch',
    11,
    mutant((store) => ({ insert: (jobs: readonly Job[], options: At) => store.insert(jobs.slice(0, 999), options) })),
  ],
  [
    'reparses and rewrites the input',
    11,
    mutant((store) => ({
      insert: (jobs: readonly Job[], options: At & { transaction?: unknown }) =>
        store.insert(
          jobs.map((job) => ({ ...job, input: job.input === null ? null : JSON.stringify(JSON.parse(job.input)) })),
          options,
        ),
    })),
  ],
  [
    'lists all queued jobs as ready, due or not',
    'list',
    mutant((store) => ({
      list: (filter: JobFilter, options: At & { limit: number; cursor?: string | undefined }) => {
        if (!filter.status?.includes('ready')) return store.list(filter, options);
        return store.list({ ...filter, status: [...filter.status, 'scheduled'] }, options);
      },
    })),
  ],
  [
    'paginates by offset, so that new jobs shift old ones',
    'list',
    mutant((store) => ({
      list: (filter: JobFilter, options: At & { limit: number; cursor?: string | undefined }) => {
        const skip = Number(options.cursor ?? 0);
        const { items } = store.list(filter, { now: options.now, limit: 10_000 });
        const page = items.slice(skip, skip + options.limit);
        return { items: page, cursor: skip + options.limit < items.length ? String(skip + options.limit) : null };
      },
    })),
  ],
  [
    'returns its own rows and keeps changing them',
    'get',
    mutant((store) => {
      const live = new Map<string, object>();
      return {
        get: (ids: readonly string[]) =>
          store.get(ids).map((record) => record && { ...record, job: Object.assign(live.get(record.job.id) ?? {}, record.job) as Job }),
        claim: (options: ClaimAt) => {
          const jobs = store.claim(options).map((job) => ({ ...job }));
          for (const job of jobs) live.set(job.id, job);
          return jobs;
        },
        settle: (settlements: readonly Settlement[], options: At) => {
          const result = store.settle(settlements, options);
          for (const { id } of settlements) Object.assign(live.get(id) ?? {}, rowOf(store, id));
          return result;
        },
      };
    }),
  ],
  [
    'updates a row in any state',
    'amend',
    mutant((store) => ({
      amend: (amendments: readonly Amendment[], options: At) =>
        store.amend(
          amendments.map((a) => ({ ...a, expect: rowOf(store, a.id) ?? a.expect })),
          options,
        ),
    })),
  ],
  [
    'reports deleted jobs as changed',
    'amend',
    mutant((store) => ({
      amend: (amendments: readonly Amendment[], options: At) =>
        store.amend(
          amendments.map((a) => ({ ...a, set: a.set ?? {} })),
          options,
        ),
    })),
  ],
  [
    'prunes jobs that finished exactly at the limit',
    'prune',
    mutant((store) => ({
      prune: (options: Parameters<MemoryStore['prune']>[0]) => store.prune({ ...options, finishedBefore: options.finishedBefore + 1 }),
    })),
  ],
  [
    'keeps jobs with a retention of 0',
    'settle',
    mutant((store) => ({
      settle: (settlements: readonly Settlement[], options: At) =>
        store.settle(
          settlements.map(({ prune: _, ...others }) => others),
          options,
        ),
    })),
  ],
  [
    "ignores a job's own retention",
    'prune',
    mutant((store) => ({
      prune: ({ own, ...options }: Parameters<MemoryStore['prune']>[0]) => (own === 'only' ? 0 : store.prune(options)),
    })),
  ],
  [
    'wakes for jobs in paused queues',
    'nextDueAt',
    mutant((store) => ({
      nextDueAt: (options: Parameters<MemoryStore['nextDueAt']>[0]) => {
        const { items } = store.list({}, { now: options.now, limit: 10_000 });
        const due = items.filter(({ job }) => ['scheduled', 'ready', 'retrying'].includes(visibleStatus(job, options.now)));
        const jobAt = due.length === 0 ? null : Math.min(...due.map(({ job }) => job.dueAt));
        return { ...store.nextDueAt(options), jobAt };
      },
    })),
  ],
  [
    'accepts blobs from a stale claim',
    'getBlobs',
    mutant((store) => ({
      saveBlobs: ({ id }: Pick<Held, 'id' | 'claim'>, blobs: Parameters<Store['saveBlobs']>[1]) =>
        store.saveBlobs({ id, claim: rowOf(store, id)?.claim ?? 0 }, blobs),
    })),
  ],
  [
    'keeps the blobs of a deleted job',
    'getBlobs',
    mutant((store) => {
      const all = new Map<string, Uint8Array>();
      return {
        insert: (jobs: readonly Job[], options: Parameters<Store['insert']>[1]) => {
          const taken = store.insert(jobs, options);
          for (const blob of options.blobs ?? []) all.set(`${blob.job} ${blob.name}`, blob.bytes.slice());
          return taken;
        },
        getBlobs: (ids: readonly string[], name: string) => ids.map((id) => all.get(`${id} ${name}`) ?? null),
      };
    }),
  ],
  [
    'drops the log lines and metadata of a settlement',
    'notes',
    mutant((store) => ({
      settle: (settlements: readonly Settlement[], options: At) =>
        store.settle(
          settlements.map(({ log: _, metadata: __, ...rest }) => rest),
          options,
        ),
    })),
  ],
  [
    'accepts progress, metadata and log lines from a stale claim',
    'notes',
    mutant((store) => ({
      renew: (held: readonly Held[], options: At & { leaseUntil: number }) => {
        const answers = store.renew(held, options);
        for (const [i, { id, ...notes }] of held.entries())
          if (answers[i]?.kind === 'lost') store.renew([{ ...notes, id, claim: rowOf(store, id)?.claim ?? 0 }], options);
        return answers;
      },
    })),
  ],
  [
    'stores log lines twice',
    'notes',
    mutant((store) => ({
      renew: (held: readonly Held[], options: At & { leaseUntil: number }) => {
        const again = held.map(({ log = [], ...rest }) => ({
          ...rest,
          log: log.map((text) => JSON.stringify({ ...JSON.parse(text), n: Math.random() + 1_000 })),
        }));
        return store.renew(again, options);
      },
    })),
  ],
  [
    'queues a job when its first parent ends',
    8,
    mutant((store) => ({
      insert: (jobs: readonly Job[], { edges, ...options }: Parameters<Store['insert']>[1]) => {
        const first = edges?.filter(({ child }, i) => edges.findIndex((edge) => edge.child === child) === i);
        return store.insert(jobs, first ? { ...options, edges: first } : options);
      },
    })),
  ],
  [
    'queues dependents only in the next call',
    8,
    mutant((store) => {
      const late: Job[] = [];
      return {
        settle: (settlements: readonly Settlement[], options: At) => {
          const answer = store.settle(settlements, options);
          const dependents = late.splice(0);
          late.push(...answer.dependents);
          return { ...answer, dependents };
        },
      };
    }),
  ],
  [
    'leaves the dependents of a failed job waiting',
    8,
    mutant((store) => ({
      insert: (jobs: readonly Job[], options: Parameters<Store['insert']>[1]) =>
        store.insert(
          jobs.map((job) => (job.part ? { ...job, part: { ...job.part, allowFailure: true } } : job)),
          options,
        ),
    })),
  ],
  [
    'keeps notifying removed listeners',
    'listen',
    mutant((store) => ({
      listen: (notify: (hint: Hint) => void) => {
        store.listen(notify);
        return () => {};
      },
    })),
  ],
];

async function failures(law: number | string, open: () => Store): Promise<readonly string[]> {
  const failed: string[] = [];
  for (const { name, run } of conformanceCases.filter((one) => one.law === law)) await run(open).catch(() => failed.push(name));
  return failed;
}

describe('the conformance suite detects faulty stores', () => {
  test.each(mutants)('a store that %s breaks law %s', async (_, law, open) => {
    const sound = new Set(await failures(law, () => new MemoryStore()));
    const caught = (await failures(law, open)).filter((name) => !sound.has(name));
    expect(caught).not.toEqual([]);
  });

  test('a store that sends no notifications breaks the law of listen', async () => {
    const deaf = mutant(() => ({ listen: () => () => {} }));
    const insertCase = conformanceCases.find(({ law, name }) => law === 'listen' && name === 'an insert sends a hint');
    await expect(insertCase?.run(deaf)).rejects.toThrow('no matching hint');
  });
});
