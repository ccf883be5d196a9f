/**
 * How many slots, processes and servers a load needs. Pure. Jobs arrive at random (Poisson) and wait for a free slot of any worker, so this
 * is the queue M/G/c: Erlang's C formula for the waits, corrected for the variation of service times (Allen and Cunneen).
 */

export interface Load {
  /** Jobs per second. */
  readonly arrivals: number;
  /** The mean time of a job's function, in milliseconds. */
  readonly serviceMs: number;
  /** The squared coefficient of variation of that time: 0 if all jobs take equally long, 1 if it is exponential. */
  readonly variation: number;
  /** The maximum wait of 95 % of the jobs from enqueue to start, in milliseconds. */
  readonly p95Ms: number;
}

/** The cost of a job, measured by `--check`. CPU times are in microseconds. */
export interface Costs {
  /** From an enqueue to the start of its job by an idle slot, in milliseconds. */
  readonly pickUpMs: number;
  /** A call that settles and claims, in milliseconds. */
  readonly callMs: number;
  readonly node: Cost;
  readonly server: Cost;
  /** The cost in the process that enqueues. */
  readonly enqueue: Cost;
}

/**
 * CPU time per job and per call. Jobs that end or arrive during a call are part of the next one, so a job gets cheaper as a process gets
 * busier.
 */
interface Cost {
  readonly job: number;
  readonly call: number;
}

export interface Plan {
  readonly slots: number;
  readonly processes: number;
  /** The fraction of the slots in use. */
  readonly utilization: number;
  readonly waitMs: { readonly p50: number; readonly p95: number };
  /** The CPU time per job of the workers, the server and the process that enqueues, in microseconds, and the cores that they keep busy. */
  readonly node: { readonly us: number; readonly cores: number };
  readonly server: { readonly us: number; readonly cores: number };
  readonly enqueue: { readonly us: number; readonly cores: number };
}

/** The maximum planned utilization of cores and slots: close to full use, small deviations cause long waits. */
export const busiest = { cores: 0.7, slots: 0.85 };

/** The probability that a job waits. @param load the offered load in Erlangs, less than `slots` */
export function erlangC(slots: number, load: number): number {
  let blocked = 1;
  for (let k = 1; k <= slots; k++) blocked = (load * blocked) / (k + load * blocked);
  const utilization = load / slots;
  return blocked / (1 - utilization * (1 - blocked));
}

/** From the end of a function until its slot takes another job: the rest of the current call, and the next one. */
const turnMs = ({ callMs }: Costs) => 2 * callMs;

/** The maximum wait for a slot of this fraction of the jobs, in milliseconds. @param betweenMs how long a slot is idle between two jobs */
export function waitMs(part: number, slots: number, { arrivals, serviceMs, variation }: Load, betweenMs: number): number {
  const holdMs = serviceMs + betweenMs;
  const load = (arrivals * holdMs) / 1_000;
  if (load >= slots) return Number.POSITIVE_INFINITY;
  const meanMs = holdMs / (slots - load);
  return Math.max(0, Math.log(erlangC(slots, load) / (1 - part))) * meanMs * ((1 + variation) / 2);
}

/** @param slotsPerProcess slots per process, unless they would overload its CPU */
export function plan(load: Load, costs: Costs, slotsPerProcess: number): Plan {
  const { arrivals, serviceMs, p95Ms } = load;
  let slots = Math.ceil((arrivals * (serviceMs + turnMs(costs))) / 1_000 / busiest.slots);
  while (costs.pickUpMs + waitMs(0.95, slots, load, turnMs(costs)) > p95Ms && p95Ms > costs.pickUpMs) slots += 1;
  return describe(load, costs, slots, Math.max(1, Math.ceil(slots / slotsPerProcess)));
}

function describe(load: Load, costs: Costs, slots: number, processes: number): Plan {
  const { arrivals, serviceMs } = load;
  const batch = 1 + ((arrivals / processes) * costs.callMs) / 1_000;
  const us = ({ job, call }: Cost) => job + call / batch;
  const cores = (perJob: number) => (arrivals * perJob) / 1e6;
  const node = us(costs.node);
  if (cores(node) / processes > busiest.cores) return describe(load, costs, slots, processes + 1);
  const [server, enqueue] = [us(costs.server), us(costs.enqueue)];
  return {
    slots,
    processes,
    utilization: (arrivals * serviceMs) / 1_000 / slots,
    waitMs: {
      p50: costs.pickUpMs + waitMs(0.5, slots, load, turnMs(costs)),
      p95: costs.pickUpMs + waitMs(0.95, slots, load, turnMs(costs)),
    },
    node: { us: node, cores: cores(node) },
    server: { us: server, cores: cores(server) },
    enqueue: { us: enqueue, cores: cores(enqueue) },
  };
}
