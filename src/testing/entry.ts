/** An entry of the virtual clock: a timer of the engine or of a task, or a wake-up. */
import type { Timer } from '../ports/clock.ts';
import type { Owner, Process } from './owners.ts';

export type Callback = () => void | Promise<void>;

/** Keeps the entries and removes them. */
interface Keeper {
  forget(entry: Entry): void;
  disown(entry: Entry, background: boolean): void;
}

export class Entry implements Timer {
  at: number;
  order: number;
  readonly fn: Callback;
  readonly process: Process | undefined;
  readonly owner: Owner | undefined;
  readonly #keeper: Keeper;
  place = -1;
  over = false;
  background = false;
  /** It is set again whenever it fires, like a heartbeat, and never completes anything. */
  repeats = false;
  /** Where it was set, for reports. */
  site: Error | undefined;
  /** The handle returned to the code that set it, used to clear it. */
  handle: object | undefined;

  constructor(keeper: Keeper, at: number, order: number, fn: Callback, process: Process | undefined, owner: Owner | undefined) {
    this.#keeper = keeper;
    this.at = at;
    this.order = order;
    this.fn = fn;
    this.process = process;
    this.owner = owner;
  }

  cancel(): void {
    if (!this.over) this.#keeper.forget(this);
  }

  /** Like Node's unref: nothing waits for it. */
  setBackground(background: boolean): void {
    if (!this.over && this.background !== background) this.#keeper.disown(this, background);
  }
}
