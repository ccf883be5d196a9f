/**
 * Runs the dashboard: keys and reads become actions, actions change the state, and the state becomes a frame. One loop advances virtual
 * time, reads the data of the current view when it is due, and draws at most 15 frames per second.
 */
import type { Tasks } from 'escapement';
import { isEscapementError } from 'escapement';
import { clean, cleanLines } from '../format.ts';
import { mailOf, saveHtml } from '../mail.ts';
import type { StoreOperations } from '../operate.ts';
import { startsWork } from './effects.ts';
import type { Feed } from './feed.ts';
import { checkInput } from './inputs.ts';
import { press } from './keys.ts';
import { Pace } from './pace.ts';
import { type Action, reduce } from './reduce.ts';
import { requestOf, Source } from './source.ts';
import { type Effect, initialState, type State, type VirtualClock, type Write } from './state.ts';
import { Terminal } from './terminal.ts';
import type { Theme } from './theme.ts';
import type { VirtualRun } from './virtual.ts';
import { carryOut, countMatching } from './writes.ts';

// The real timers, even while a simulation replaces the globals.
const { setTimeout, clearTimeout, setImmediate } = globalThis;

/** The application that the dashboard shows, in real or virtual time. A reload replaces it. */
export interface Session {
  readonly tasks: Tasks;
  /** The store whose jobs are shown. Default: that of the default backend. */
  readonly store?: StoreOperations;
  readonly run: VirtualRun | undefined;
  readonly hasEvents: boolean;
  readonly shared: boolean;
  /** Throws if the store no longer exists and reading would not reveal it. */
  readonly requirePresent?: () => void;
}

export interface DashboardOptions {
  readonly label: string;
  readonly write: boolean;
  readonly zone: string;
  readonly cwd: string;
  readonly theme: Theme;
  readonly feed: Feed;
  /** Real epoch milliseconds. */
  readonly now: () => number;
  readonly realNow: () => number;
  readonly draw: (state: State, theme: Theme) => readonly string[];
}

/** The interval between reads of a local application while its data changes. */
const ownPaceMs = 100;
/** The interval between reads of a quiet and of a busy system. */
const quietMs = 1_000;
const busyMs = 250;

export class Dashboard {
  readonly #options: DashboardOptions;
  readonly #terminal: Terminal;
  #session: Session | undefined;
  #source: Source | undefined;
  #state: State;
  readonly #pace = new Pace();
  #drawing: NodeJS.Timeout | undefined;
  /** True if a key caused the pending frame. */
  #byKey = false;
  #readAt = Number.NEGATIVE_INFINITY;
  #lastRequest = '';
  #seqSeen = -1;
  #ended = false;
  #wake = () => {};
  /** Pending while the application is replaced. Nothing is read, and time does not advance. */
  #held: Promise<void> | undefined;
  /** Actions of the user that wait for the end of the current slice of virtual time. */
  #wanted: (() => Promise<void>)[] = [];
  #interrupted = false;
  /** Rewinds to an instant. Set by the command, if it supports that. */
  onRewind: (at: number) => Promise<void> = async () => {};

  constructor(options: DashboardOptions) {
    this.#options = options;
    this.#terminal = new Terminal({
      key: (key) => this.#apply((state) => press(state, key), true),
      resized: (columns, rows) => this.dispatch({ type: 'resized', columns, rows }),
      resumed: () => this.#draw(),
      gone: () => this.quit(),
      printed: (text) => {
        for (const line of cleanLines(text)) options.feed.print(this.#now(), line);
      },
    });
    const { label, write, zone } = options;
    const { columns, rows } = this.#terminal;
    this.#state = initialState({ columns, rows, label, write, zone, clock: null, now: options.now() });
  }

  get ended(): boolean {
    return this.#ended;
  }
  get terminal(): Terminal {
    return this.#terminal;
  }

  /** Runs until the user quits. */
  async start(): Promise<void> {
    this.#terminal.start();
    try {
      this.#draw();
      while (!this.#ended) await this.#turn();
    } finally {
      clearTimeout(this.#drawing);
      this.#terminal.stop();
    }
  }

  quit(): void {
    this.#ended = true;
    this.#wake();
  }

  dispatch(action: Action): void {
    this.#apply((state) => reduce(state, action));
  }

  notify(kind: 'done' | 'error', text: string): void {
    this.dispatch({ type: 'notified', kind, text: clean(text) });
  }

  /** Shows the progress of a long operation. Returns false if the user wants to stop it. */
  showProgress(text: string): boolean {
    this.dispatch({ type: 'busy', text });
    return !this.#interrupted && !this.#ended;
  }

  /** Stops reading and advancing time while `swap` replaces the application. */
  async exchange(swap: () => Promise<Session | undefined>): Promise<void> {
    const before = this.#held;
    const swapped = (async () => {
      await before;
      const session = await swap();
      if (session) this.#use(session);
    })();
    this.#held = swapped.catch(() => {});
    await swapped;
  }

  #use(session: Session): void {
    const { feed, cwd } = this.#options;
    const { tasks, store, hasEvents, shared } = session;
    this.#session = session;
    this.#source = new Source(tasks, { now: () => this.#now(), feed, hasEvents, shared, store, cwd });
    this.dispatch({ type: 'began' });
    this.#readSoon();
  }

  /** Marks the displayed data as outdated. */
  #readSoon(): void {
    this.#readAt = Number.NEGATIVE_INFINITY;
    this.#wake();
  }

  #now(): number {
    return this.#session?.run?.now ?? this.#options.now();
  }

  /** The clock for a frame. Virtual time does not advance while a frame is made. */
  #clock(): { readonly clock: VirtualClock } | Record<never, never> {
    const clock = this.#session?.run?.clock;
    return clock ? { clock } : {};
  }

  async #turn(): Promise<void> {
    await this.#held;
    const run = this.#session?.run;
    for (const work of this.#wanted.splice(0)) await work();
    try {
      if (run && !run.still) {
        await run.slice();
        if (run.still) this.#readSoon();
      }
    } catch (error) {
      run?.order({ kind: 'pause' });
      this.#readSoon();
      this.notify('error', `virtual time has stopped: ${messageOf(error)}`);
    }
    if (this.#isReadDue()) await this.#read();
    else if (Math.floor(this.#now() / 1_000) !== Math.floor(this.#state.now / 1_000) || run) this.#tick();
    await this.#rest(run !== undefined && !run.still ? 12 : this.#state.view === 'events' ? busyMs : ownPaceMs);
  }

  #tick(): void {
    const before = this.#state;
    this.#state = reduce(before, { type: 'ticked', now: this.#now(), ...this.#clock() });
    if (
      JSON.stringify(before.clock) !== JSON.stringify(this.#state.clock) ||
      Math.floor(before.now / 1_000) !== Math.floor(this.#state.now / 1_000)
    )
      this.#draw();
  }

  #isReadDue(): boolean {
    if (!this.#source) return false;
    const past = this.#options.realNow() - this.#readAt;
    if (JSON.stringify(requestOf(this.#state)) !== this.#lastRequest) return true;
    return past >= (this.#options.feed.seq === this.#seqSeen ? quietMs : busyMs);
  }

  async #read(): Promise<void> {
    const source = this.#source as Source;
    const request = requestOf(this.#state);
    this.#lastRequest = JSON.stringify(request);
    this.#readAt = this.#options.realNow();
    this.#seqSeen = this.#options.feed.seq;
    try {
      this.#session?.requirePresent?.();
      const data = await source.read(request);
      // The user has moved to another view in the meantime.
      if (JSON.stringify(requestOf(this.#state)) === this.#lastRequest)
        this.dispatch({ type: 'read', now: this.#now(), data, ...this.#clock() });
    } catch (error) {
      this.dispatch({ type: 'unread', text: messageOf(error) });
    }
    // Do not query a slow store continuously.
    const took = this.#options.realNow() - this.#readAt;
    if (took > 10) this.#readAt += took * 60;
  }

  #apply(change: (state: State) => State, byKey = false): void {
    const changed = change(this.#state);
    if (changed === this.#state) return;
    const { effects } = changed;
    this.#state = reduce(changed, { type: 'taken' });
    for (const effect of effects) this.#perform(effect);
    this.#draw(byKey);
    this.#wake();
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case 'quit':
        this.quit();
        break;
      case 'suspend':
        this.#terminal.suspend();
        break;
      case 'redraw':
        this.#terminal.forget();
        break;
      case 'clock':
        this.#session?.run?.order(effect.order);
        if (this.#session?.run?.still) this.#readSoon();
        this.#tick();
        break;
      case 'write':
        this.#between(() => this.#carryOut(effect.write));
        break;
      case 'count':
        this.#between(() => this.#count(effect.write));
        break;
      case 'rewind':
        this.#interrupted = false;
        this.dispatch({ type: 'busy', text: 'reloading the module' });
        void this.onRewind(effect.at)
          .catch((error: unknown) => this.notify('error', `cannot rewind: ${messageOf(error)}`))
          .then(() => this.dispatch({ type: 'busy', text: null }));
        break;
      case 'saveMail':
        void this.#saveMail(effect.job);
        break;
      case 'interrupt':
        this.#interrupted = true;
        break;
      case 'check':
        void this.#check(effect.task, effect.input);
    }
  }

  /** Runs immediately in real time, and between two slices in virtual time. */
  #between(work: () => Promise<void>): void {
    if (this.#session?.run) this.#wanted.push(work);
    else void work();
  }

  async #count(write: Write): Promise<void> {
    if (!this.#session) return;
    try {
      this.dispatch({ type: 'counted', write, count: await countMatching(this.#session.store ?? this.#session.tasks, write) });
    } catch (error) {
      this.dispatch({ type: 'no' });
      this.notify('error', messageOf(error));
    }
  }

  async #saveMail(job: string): Promise<void> {
    try {
      const mail = await (this.#session && mailOf(this.#session.tasks).outbox?.get(job));
      if (mail) this.notify('done', `written to ${saveHtml(job.slice(-6), mail)}`);
    } catch (error) {
      this.notify('error', messageOf(error));
    }
  }

  async #check(task: string, input: string): Promise<void> {
    if (!this.#session) return;
    const { ok, text } = await checkInput(this.#session.tasks, task, input);
    this.dispatch({ type: 'checked', input, ok, text });
  }

  async #carryOut(write: Write): Promise<void> {
    await this.#held;
    const session = this.#session;
    if (!session) return;
    const perform = (one: Write) => carryOut(session.tasks, one, session.store);
    try {
      session.requirePresent?.();
      const done = await (session.run ? session.run.act(write, perform) : perform(write));
      const waits = session.run?.still === true && startsWork(write);
      this.notify('done', waits ? `${done}; time is paused, space resumes it` : done);
    } catch (error) {
      this.notify('error', messageOf(error));
    }
    this.#readSoon();
  }

  /** Schedules a frame within the frame rate. @param byKey true if a key was pressed: draw immediately if the limit allows it */
  #draw(byKey = false): void {
    if (this.#ended) return;
    if (this.#drawing) {
      if (!byKey || this.#byKey) return;
      clearTimeout(this.#drawing);
    }
    this.#byKey = byKey;
    const wait = this.#pace.waitMs(this.#options.realNow(), byKey);
    // Before the read, which may be slow.
    if (wait <= 0) this.#drawNow();
    else this.#drawing = setTimeout(() => this.#drawNow(), wait);
  }

  #drawNow(): void {
    this.#drawing = undefined;
    this.#pace.drawn(this.#options.realNow(), this.#byKey);
    this.#byKey = false;
    if (this.#terminal.draw(this.#frame()) || this.#ended) return;
    this.#drawing = setTimeout(() => this.#drawNow(), ownPaceMs);
  }

  /** If a view cannot be drawn, its error is shown. The other views stay usable. */
  #frame(): readonly string[] {
    try {
      return this.#options.draw(this.#state, this.#options.theme);
    } catch (error) {
      const rows = Array.from({ length: this.#state.rows }, () => '');
      rows[0] = ` ✗ ${this.#state.view} cannot be drawn: ${messageOf(error)}`.slice(0, this.#state.columns);
      rows[1] = ' 1 … 7 other views   q quit'.slice(0, this.#state.columns);
      return rows;
    }
  }

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = () => {};
        // Handle the keys that have arrived in the meantime first.
        setImmediate(resolve);
      };
      const timer = setTimeout(done, ms);
      this.#wake = done;
    });
  }
}

function messageOf(error: unknown): string {
  if (isEscapementError(error)) return clean(error.message);
  return error instanceof Error ? clean(error.message) : clean(String(error));
}
