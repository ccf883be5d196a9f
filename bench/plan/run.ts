/**
 * How many slots, processes and servers a load needs:
 *
 *     npm run plan -- --arrivals 200/s --service 50ms --p95 100ms
 *
 * `--arrivals` 20/s, 600/m or 5000/h; `--service` the mean time of a job's function; `--variation` the squared coefficient of variation of
 * that time, 0 if all jobs take equally long (1); `--p95` the maximum wait of 95 % of the jobs from enqueue to start (100ms); `--slots` per
 * process (100); `--check 20s` also runs that load on a server, started from npm or given by `--url`, and prints the measured values next
 * to the predicted ones.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { startPostgres } from '../../test/setup/postgres.ts';
import { measure } from './load.ts';
import { busiest, type Costs, type Load, type Plan, plan } from './model.ts';

/** Measured by `--check` on two cores that also ran PostgreSQL 18, Node.js 26. */
const costs: Costs = {
  pickUpMs: 4,
  callMs: 5,
  node: { job: 60, call: 2_400 },
  server: { job: 100, call: 4_500 },
  enqueue: { job: 50, call: 1_500 },
};

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

function durationMs(text: string): number {
  const [, count = '', unit = ''] = /^([\d.]+)(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Number(count) * (unitMs[unit] ?? Number.NaN);
  if (ms > 0) return ms;
  throw new Error(`expected a duration such as 50ms or 2s, got ${text}`);
}

function perSecond(text: string): number {
  const [, count = '', unit = ''] = /^([\d.]+)\/(s|m|h)$/.exec(text) ?? [];
  const rate = (Number(count) * 1_000) / (unitMs[unit] ?? Number.NaN);
  if (rate > 0) return rate;
  throw new Error(`expected a rate such as 200/s or 5000/h, got ${text}`);
}

const { values } = parseArgs({
  options: {
    arrivals: { type: 'string' },
    service: { type: 'string' },
    variation: { type: 'string', default: '1' },
    p95: { type: 'string', default: '100ms' },
    slots: { type: 'string', default: '100' },
    check: { type: 'string' },
    url: { type: 'string' },
  },
});
if (!values.arrivals || !values.service) {
  console.error(
    'usage: npm run plan -- --arrivals 200/s --service 50ms [--p95 100ms] [--variation 1] [--slots 100] [--check 20s [--url URL]]',
  );
  process.exit(2);
}
const load: Load = {
  arrivals: perSecond(values.arrivals),
  serviceMs: durationMs(values.service),
  variation: Number(values.variation),
  p95Ms: durationMs(values.p95),
};
const planned = plan(load, costs, Number(values.slots));
print(planned);
if (values.check) await check(planned, durationMs(values.check));

function print({ slots, processes, utilization, waitMs, node, server }: Plan): void {
  const percent = Math.round(utilization * 100);
  console.log(`slots           ${slots}, ${percent} % of them busy`);
  console.log(`processes       ${processes}, of ${Math.ceil(slots / processes)} slots each; one more for redundancy`);
  console.log(`waits           p50 ${waitMs.p50.toFixed(0)} ms, p95 ${waitMs.p95.toFixed(0)} ms`);
  console.log(`CPU of workers  ${node.us.toFixed(0)} µs per job in addition to its function: ${node.cores.toFixed(2)} cores`);
  console.log(
    `CPU of server   ${server.us.toFixed(0)} µs per job: ${server.cores.toFixed(2)} cores busy, so a server of ${Math.max(1, Math.ceil(server.cores / busiest.cores))}`,
  );
}

async function check({ slots, processes, utilization, waitMs, node, server, enqueue }: Plan, forMs: number): Promise<void> {
  const cores = node.cores + server.cores + enqueue.cores;
  if (cores > busiest.cores * availableParallelism())
    console.log(
      `this machine is too small: workers, server and enqueues need ${cores.toFixed(1)} cores, of ${availableParallelism()}; waits will be longer`,
    );
  const started = values.url ? undefined : await startPostgres(['fsync=on', 'synchronous_commit=on']);
  try {
    const each = Array.from({ length: processes }, (_, i) => Math.floor((slots + i) / processes));
    const found = await measure(values.url ?? started?.url ?? '', load, each, forMs);
    const row = (predicted: number, measured: number) => ({
      predicted: Number(predicted.toFixed(2)),
      measured: Number(measured.toFixed(2)),
    });
    console.table({
      'arrivals per second': row(load.arrivals, found.arrivals),
      'service, ms': row(load.serviceMs, found.serviceMs),
      utilization: row(utilization, found.utilization),
      'wait p50, ms': row(waitMs.p50, found.waitMs.p50),
      'wait p95, ms': row(waitMs.p95, found.waitMs.p95),
      'workers, µs per job': row(node.us, found.cpu.node),
      'server, µs per job': row(server.us, found.cpu.server),
      'enqueues, µs per job': row(enqueue.us, found.cpu.enqueue),
    });
  } finally {
    await started?.stop();
  }
}
