/** Reports that a worker's store is failing, once for all of its loops, and that it has recovered. */
import { recordError } from '../core/failure.ts';
import { duplicatesEvent, type Host } from './host.ts';

/** A full disk may last for hours, so after the first report there is at most one per interval. */
const reportEveryMs = 30_000;

export class Outage {
  readonly #host: Host;
  readonly #worker: string;
  #failingLoops = 0;
  #isReported = false;
  #reportedAt = Number.NEGATIVE_INFINITY;

  constructor(host: Host, worker: string) {
    this.#host = host;
    this.#worker = worker;
  }

  /** Called when a loop's call of the store fails. @param first whether the previous call had succeeded */
  failed(error: unknown, first: boolean): void {
    if (first) this.#failingLoops += 1;
    const { clock, logger, events } = this.#host;
    const at = clock.now();
    if (at - this.#reportedAt < reportEveryMs) return;
    this.#reportedAt = at;
    this.#isReported = true;
    const recorded = recordError(error);
    const fields = { worker: this.#worker, error: `${recorded.name}: ${recorded.message}` };
    logger.warn(duplicatesEvent(fields), 'the store is failing; retrying');
    events.emit({ type: 'storeFailing', at, worker: this.#worker, error: recorded });
  }

  /** Called when a loop's call succeeds after failures. */
  recovered(): void {
    this.#failingLoops -= 1;
    if (this.#failingLoops > 0 || !this.#isReported) return;
    this.#isReported = false;
    const { clock, logger, events } = this.#host;
    logger.info(duplicatesEvent({ worker: this.#worker }), 'the store has recovered');
    events.emit({ type: 'storeRecovered', at: clock.now(), worker: this.#worker });
  }
}
