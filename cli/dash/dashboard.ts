/**
 * The dashboard while it runs: keys and looks become actions, actions a state, the state a frame. One loop moves virtual time if there is
 * any, reads what the view shows when it is due, and draws at most fifteen frames a second.
 */
import type { Tasks } from 'escapement';
import { isEscapementError } from 'escapement';
import { clean, cleanLines } from '../format.ts';
import { mailOf, saveHtml } from '../mail.ts';
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

// The real ones, also while a simulation fakes the globals.
const { setTimeout, clearTimeout, setImmediate } = globalThis;

/** What the dashboard looks at: an application, in real or in virtual time. A reload puts another in its place. */
export interface Session {
  readonly tasks: Tasks;
  readonly run: VirtualRun | undefined;
  readonly hears: boolean;
  readonly shared: boolean;
  /** Throws if what is looked at is not there any more, where reading it would not tell. */
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

/** How often something that moves is looked at. */
const ownPaceMs = 100;
/** How often is looked: at a system that is quiet, and at one in which something happens. */
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
  /** The frame that is due is for a key. */
  #asked = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #lookedFor = '';
  #seqSeen = -1;
  #ended = false;
  #wake = () => {};
  /** Another application is put in place; nothing is read or moved meanwhile. */
  #held: Promise<void> | undefined;
  /** What the user wants done to an application in virtual time: between two slices of it. */
  #wanted: (() => Promise<void>)[] = [];
  #interrupted = false;
  /** Goes back to an instant; set by whoever can. */
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

  /** Runs until the user leaves. */
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

  tell(kind: 'done' | 'error', text: string): void {
    this.dispatch({ type: 'told', kind, text: clean(text) });
  }

  /** Says how far something is that takes a while; false: the user wants it to stop. */
  goesOn(text: string): boolean {
    this.dispatch({ type: 'busy', text });
    return !this.#interrupted && !this.#ended;
  }

  /** Holds still while `swap` puts another application in the place of this one. */
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
    const { tasks, hears, shared } = session;
    this.#session = session;
    this.#source = new Source(tasks, { now: () => this.#now(), feed, hears, shared, cwd });
    this.dispatch({ type: 'began' });
    this.#lookSoon();
  }

  /** What is shown may be out of date. */
  #lookSoon(): void {
    this.#lookedAt = Number.NEGATIVE_INFINITY;
    this.#wake();
  }

  #now(): number {
    return this.#session?.run?.now ?? this.#options.now();
  }

  /** For a frame: virtual time does not move while a frame is made. */
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
        if (run.still) this.#lookSoon();
      }
    } catch (error) {
      run?.order({ kind: 'pause' });
      this.#lookSoon();
      this.tell('error', `virtual time stands still: ${messageOf(error)}`);
    }
    if (this.#isLookDue()) await this.#look();
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

  #isLookDue(): boolean {
    if (!this.#source) return false;
    const past = this.#options.realNow() - this.#lookedAt;
    if (JSON.stringify(requestOf(this.#state)) !== this.#lookedFor) return true;
    return past >= (this.#options.feed.seq === this.#seqSeen ? quietMs : busyMs);
  }

  async #look(): Promise<void> {
    const source = this.#source as Source;
    const request = requestOf(this.#state);
    this.#lookedFor = JSON.stringify(request);
    this.#lookedAt = this.#options.realNow();
    this.#seqSeen = this.#options.feed.seq;
    try {
      this.#session?.requirePresent?.();
      const data = await source.read(request);
      // What was asked for is not what is shown any more.
      if (JSON.stringify(requestOf(this.#state)) === this.#lookedFor)
        this.dispatch({ type: 'read', now: this.#now(), data, ...this.#clock() });
    } catch (error) {
      this.dispatch({ type: 'unread', text: messageOf(error) });
    }
    // A slow store is not asked all the time.
    const took = this.#options.realNow() - this.#lookedAt;
    if (took > 10) this.#lookedAt += took * 60;
  }

  #apply(change: (state: State) => State, asked = false): void {
    const changed = change(this.#state);
    if (changed === this.#state) return;
    const { effects } = changed;
    this.#state = reduce(changed, { type: 'taken' });
    for (const effect of effects) this.#perform(effect);
    this.#draw(asked);
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
        if (this.#session?.run?.still) this.#lookSoon();
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
        this.dispatch({ type: 'busy', text: 'the module is loaded afresh' });
        void this.onRewind(effect.at)
          .catch((error: unknown) => this.tell('error', `time cannot be turned back: ${messageOf(error)}`))
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

  /** Now; in virtual time, when it stands between two slices. */
  #between(work: () => Promise<void>): void {
    if (this.#session?.run) this.#wanted.push(work);
    else void work();
  }

  async #count(write: Write): Promise<void> {
    if (!this.#session) return;
    try {
      this.dispatch({ type: 'counted', write, count: await countMatching(this.#session.tasks, write) });
    } catch (error) {
      this.dispatch({ type: 'no' });
      this.tell('error', messageOf(error));
    }
  }

  async #saveMail(job: string): Promise<void> {
    try {
      const mail = await (this.#session && mailOf(this.#session.tasks).outbox?.get(job));
      if (mail) this.tell('done', `written to ${saveHtml(job.slice(-6), mail)}`);
    } catch (error) {
      this.tell('error', messageOf(error));
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
    const perform = (one: Write) => carryOut(session.tasks, one);
    try {
      session.requirePresent?.();
      const done = await (session.run ? session.run.act(write, perform) : perform(write));
      const waits = session.run?.still === true && startsWork(write);
      this.tell('done', waits ? `${done}; time stands still, space lets it go on` : done);
    } catch (error) {
      this.tell('error', messageOf(error));
    }
    this.#lookSoon();
  }

  /** Soon, and not more often than the eye can follow. @param asked a key was pressed: at once, if any frame of this second is left */
  #draw(asked = false): void {
    if (this.#ended) return;
    if (this.#drawing) {
      if (!asked || this.#asked) return;
      clearTimeout(this.#drawing);
    }
    this.#asked = asked;
    const wait = this.#pace.waitMs(this.#options.realNow(), asked);
    // Before a look, which may take its time.
    if (wait <= 0) this.#drawNow();
    else this.#drawing = setTimeout(() => this.#drawNow(), wait);
  }

  #drawNow(): void {
    this.#drawing = undefined;
    this.#pace.drawn(this.#options.realNow(), this.#asked);
    this.#asked = false;
    if (this.#terminal.draw(this.#frame()) || this.#ended) return;
    this.#drawing = setTimeout(() => this.#drawNow(), ownPaceMs);
  }

  /** A view that cannot be drawn says so, and the others are still there. */
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
        // Keys that have come meanwhile are heard first.
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
