/** The only wrapper around a store, used for faults, the invariant checker, and anything else that observes its calls. */
import type { Store } from '../ports/store.ts';

/** The calls of the store port, except those that open, close and listen. */
export type StoreCall = Exclude<
  keyof Store,
  'name' | 'supports' | 'pollMs' | 'lanes' | 'aheadMs' | 'listen' | 'keeper' | 'transactionsEnded' | 'migrate' | 'close'
>;

/** A method that is added to the port but not here does not compile. */
const named: Record<StoreCall, true> = {
  insert: true,
  claim: true,
  renew: true,
  settle: true,
  overdue: true,
  nextDueAt: true,
  amend: true,
  prune: true,
  saveWorker: true,
  listWorkers: true,
  saveQueue: true,
  saveSchedule: true,
  dropSchedule: true,
  listSchedules: true,
  dueSchedules: true,
  advanceSchedules: true,
  get: true,
  list: true,
  stats: true,
  saveSteps: true,
  getSteps: true,
  sendSignal: true,
  takeSignal: true,
  getEdges: true,
  saveBlobs: true,
  getBlobs: true,
};
const calls = Object.keys(named) as readonly StoreCall[];

/** Receives a call of a store with its arguments, and performs it or not. */
export type AroundCall = (call: StoreCall, args: readonly [unknown, unknown], perform: () => unknown) => unknown;

/** A store whose calls go through `around`; everything else is passed through. */
export function aroundStore(store: Store, around: AroundCall): Store {
  const view: Partial<Record<keyof Store, unknown>> = {
    name: store.name,
    supports: store.supports,
    pollMs: store.pollMs,
    migrate: () => store.migrate(),
    close: () => store.close(),
    ...(store.listen ? { listen: store.listen.bind(store) } : {}),
    ...(store.keeper ? { keeper: store.keeper.bind(store) } : {}),
    ...(store.transactionsEnded ? { transactionsEnded: store.transactionsEnded.bind(store) } : {}),
  };
  for (const call of calls) {
    // Every method of the port has at most two parameters.
    const real = (store[call] as (a: unknown, b: unknown) => unknown).bind(store);
    view[call] = (a: unknown, b: unknown) => around(call, [a, b], () => real(a, b));
  }
  return view as Store;
}
