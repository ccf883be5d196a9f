/** Chance as the engine sees it, and the ids made from it. The system's random source stands here; a simulation's is seeded. */
import { v7 } from 'uuid';

/** Chance as an argument. */
export interface Random {
  /** A number from 0 up to, not including, 1, for a choice at a named point such as `backoff.jitter`. */
  fraction(point: string): number;
  /** Fills the array with random bytes. */
  fill(bytes: Uint8Array<ArrayBuffer>): void;
}

const pool = new Uint8Array(4_096);
let poolFrom = pool.length;

/** The random source of the machine. For up to 4,096 bytes at a time. */
export const systemRandom: Random = {
  fraction: () => Math.random(),
  fill(bytes) {
    // A few bytes at a time would pay for a call of the system each time.
    if (poolFrom + bytes.length > pool.length) {
      crypto.getRandomValues(pool);
      poolFrom = 0;
    }
    for (let i = 0; i < bytes.length; i++) bytes[i] = pool[poolFrom++] as number;
  },
};

/**
 * Makes job ids: UUID version 7 (RFC 9562), which sort by time, and within a millisecond by a counter. A clock that steps back does not
 * make ids that sort before earlier ones.
 */
export function createIds(random: Random): (now: number) => string {
  const bytes = new Uint8Array(16);
  // What stands before is the instant and the counter.
  const tail = bytes.subarray(10);
  let lastAt = -1;
  let sequence = 0;
  return (now) => {
    if (now > lastAt) {
      lastAt = now;
      sequence = 0;
    } else sequence += 1;
    random.fill(tail);
    return v7({ msecs: lastAt, seq: sequence, random: bytes });
  };
}
