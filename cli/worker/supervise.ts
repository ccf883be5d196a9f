/**
 * Supervises worker processes: forks them, keeps their number constant, forwards signals, and exits after all of them. The first one starts
 * alone, so that a module that cannot be loaded is reported once. A crashed worker is replaced after a delay that grows with repeated
 * crashes; one that reached its job or memory limit is replaced immediately.
 */
import { plural } from '../format.ts';
import { type Child, type ExitCode, exitCodes, type Io, type Report } from '../io.ts';
import { Ends } from './ending.ts';
import type { Log } from './log.ts';

const firstDelayMs = 250;
const longestDelayMs = 30_000;
/** A worker that ran for this long resets the delay: its crash is unrelated to earlier ones. */
const longLifeMs = 60_000;
/** If a worker reaches its memory limit within this time, the limit is too low. */
const shortLifeMs = 10_000;
/** The time that a child has to exit immediately before it is killed. */
const leaveMs = 1_000;

interface Plan {
  readonly id: string;
  readonly processes: number;
  /** The arguments for each child. */
  readonly argv: (id: string) => readonly string[];
  /** The URL of `--postgres`, which is not among the arguments. */
  readonly postgres: string | undefined;
  readonly log: Log;
  /** The time that a child has to stop before it is killed. */
  readonly patienceMs: number;
}

/** The slot of one worker process. */
interface Place {
  readonly id: string;
  child: Child | undefined;
  deaths: number;
  timer: NodeJS.Timeout | undefined;
}

export function supervise({ id, processes, argv, postgres, log, patienceMs }: Plan, io: Io): Promise<ExitCode> {
  const ownProcess = io.process;
  const places: Place[] = Array.from({ length: processes }, (_, i) => ({
    id: `${id}-${i}`,
    child: undefined,
    deaths: 0,
    timer: undefined,
  }));
  const ends = new Ends();
  let worst: ExitCode = exitCodes.ok;
  let opened = false;
  let leaving: number | undefined;

  return new Promise((resolve) => {
    const settle = () => {
      if (places.some(({ child, timer }) => child || timer)) return;
      if (leaving !== undefined) ownProcess.leave(leaving);
      else resolve(worst || ends.code);
    };

    const fill = (place: Place) => {
      const child = ownProcess.fork(argv(place.id), postgres);
      const bornAt = io.realNow();
      let why: string | undefined;
      place.child = child;
      place.timer = undefined;
      log.write('debug', { child: place.id, pid: child.pid }, `${place.id} is process ${child.pid}`);
      child.onReport((report: Report) => {
        if (report.kind === 'ending') why = report.why;
        else if (!opened) {
          opened = true;
          for (const other of places) if (!other.child && !ends.ending) fill(other);
        }
      });
      child.onExit((code, signal) => {
        place.child = undefined;
        ended(place, { code, signal, why, livedMs: io.realNow() - bornAt });
        settle();
      });
      // Asked to end before the next worker was forked.
      if (ends.ending) child.send('stop');
    };

    const ended = (
      place: Place,
      { code, signal, why, livedMs }: { code: number | null; signal: string | null; why: string | undefined; livedMs: number },
    ) => {
      const how = signal ? `was killed by ${signal}` : `exited with code ${code}`;
      const fields = { child: place.id, code, signal };
      if (ends.ending) {
        if (code !== 0) {
          log.write('warn', fields, `${place.id} ${how}`);
          worst = exitCodes.refused;
        }
      } else if (code === exitCodes.usage && !opened) {
        worst = exitCodes.usage;
        ends.request('fault', exitCodes.usage);
      } else if (code === 0 && why === 'drained') log.write('debug', fields, `${place.id} is drained`);
      else if (code === 0 && why === 'output closed') ends.request('output closed');
      else {
        const tooBig = why === 'max memory' && livedMs < shortLifeMs;
        if (tooBig)
          log.write(
            'warn',
            fields,
            `${place.id} reached --max-memory within ${Math.round(livedMs / 1_000)} s of its start: the limit is too low`,
          );
        const recycled = code === 0 && (why === 'max jobs' || why === 'max memory') && !tooBig;
        place.deaths = recycled || livedMs >= longLifeMs ? 0 : place.deaths + 1;
        const delayMs = recycled ? 0 : Math.min(longestDelayMs, firstDelayMs * 2 ** Math.max(0, place.deaths - 1));
        log.write(
          recycled ? 'info' : 'error',
          { ...fields, delayMs },
          `${place.id} ${how}; replacing it ${recycled ? 'now' : `in ${delayMs} ms`}`,
        );
        place.timer = setTimeout(() => fill(place), delayMs);
      }
    };

    const leave = (code: number) => {
      leaving = code;
      for (const { child } of places) child?.send('leave');
      settle();
      setTimeout(() => {
        for (const { child } of places) child?.kill();
        ownProcess.leave(code);
      }, leaveMs);
    };

    ends.listen({ ...ownProcess, leave }, log, undefined);
    ends.requested.then(
      () => {
        for (const place of places) {
          clearTimeout(place.timer);
          place.timer = undefined;
          place.child?.send('stop');
        }
        settle();
        // A process in an endless loop does not react to signals or messages.
        setTimeout(() => {
          for (const { id: name, child } of places) {
            if (!child) continue;
            log.write(
              'error',
              { child: name, pid: child.pid },
              `${name} did not stop in time and is killed; its jobs are recovered when their leases expire`,
            );
            child.kill();
          }
        }, patienceMs).unref();
      },
      () => {},
    );

    log.write('info', { pid: process.pid, processes }, `keeping ${plural(processes, 'worker process')}`.replace('processs', 'processes'));
    fill(places[0] as Place);
  });
}
