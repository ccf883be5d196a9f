/** Randomness as the engine sees it, and the ids made from it. This file contains the system's random source; a simulation uses a seeded one. */

/** Randomness as a dependency. */
export interface Random {
  /** A number in [0, 1), for a choice at a named point such as `backoff.jitter`. */
  fraction(point: string): number;
  /** Fills the array with random bytes. */
  fill(bytes: Uint8Array<ArrayBuffer>): void;
}

const pool = new Uint8Array(4_096);
let poolFrom = pool.length;

/** The machine's random source. Fills up to 4,096 bytes per call. */
export const systemRandom: Random = {
  fraction: () => Math.random(),
  fill(bytes) {
    // Requesting a few bytes at a time would cost a system call each.
    if (poolFrom + bytes.length > pool.length) {
      crypto.getRandomValues(pool);
      poolFrom = 0;
    }
    for (let i = 0; i < bytes.length; i++) bytes[i] = pool[poolFrom++] as number;
  },
};

/**
 * Makes job ids: UUIDv7 (RFC 9562), which sort by time, and by a counter within a millisecond. If the clock is set back, new ids still sort
 * after earlier ones. (Loading the package `uuid` takes a third as long as loading all of this package.)
 */
export function createIds(random: Random): (now: number) => string {
  const bytes = new Uint8Array(16);
  // The bytes before these contain the instant and the counter.
  const tail = bytes.subarray(10);
  let lastAt = -1;
  let sequence = 0;
  return (now) => {
    if (now > lastAt) {
      lastAt = now;
      sequence = 0;
    } else sequence += 1;
    random.fill(tail);
    for (let i = 5, rest = lastAt; i >= 0; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
    bytes[6] = 0x70 | (sequence >>> 28);
    bytes[7] = sequence >>> 20;
    bytes[8] = 0x80 | ((sequence >>> 14) & 0x3f);
    bytes[9] = sequence >>> 6;
    bytes[10] = (sequence << 2) | ((bytes[10] as number) & 0x03);
    return format(bytes);
  };
}

/**
 * Makes the id of a worker: eight characters for the millisecond, so that ids sort by time, and five random ones. Ids are short because the
 * row of each job repeats that of its last worker: with UUIDs, a SQLite worker would be a twentieth slower.
 */
export function createWorkerId(random: Random, now: number): string {
  const bytes = new Uint8Array(5);
  random.fill(bytes);
  const characters = Array.from(bytes, (byte) => (byte % 36).toString(36));
  return Math.floor(now).toString(36).padStart(8, '0') + characters.join('');
}

const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` */
function format(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < 16; i++) text += (i === 4 || i === 6 || i === 8 || i === 10 ? '-' : '') + hex[bytes[i] as number];
  return text;
}
