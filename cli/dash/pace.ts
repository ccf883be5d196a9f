/**
 * When the next frame may be drawn: at most so many in any second. A key is answered at once; while keys come faster than frames may, as
 * from one that is held down, frames keep coming at an even pace, instead of all at once and then none for the rest of the second.
 */

const framesASecond = 15;
/** The pace of what moves by itself, and of keys that come in numbers. */
const paceMs = 100;
/** Those of a second that are kept for keys. */
const atOnce = 5;

export class Pace {
  /** When the last frames were drawn, the oldest first. */
  readonly #drawnAt: number[] = [];
  readonly #askedAt: number[] = [];

  /** How long to wait before the next frame. @param asked a key was pressed */
  waitMs(now: number, asked: boolean): number {
    const eldest = this.#drawnAt.length < framesASecond ? Number.NEGATIVE_INFINITY : (this.#drawnAt[0] ?? 0) + 1_000;
    const free = asked && (this.#askedAt.length < atOnce || (this.#askedAt[0] ?? 0) + 1_000 <= now);
    const paced = free ? Number.NEGATIVE_INFINITY : (this.#drawnAt.at(-1) ?? Number.NEGATIVE_INFINITY) + paceMs;
    return Math.max(0, eldest - now, paced - now);
  }

  drawn(now: number, asked: boolean): void {
    this.#drawnAt.push(now);
    if (this.#drawnAt.length > framesASecond) this.#drawnAt.shift();
    if (!asked) return;
    this.#askedAt.push(now);
    if (this.#askedAt.length > atOnce) this.#askedAt.shift();
  }
}
