/** Formats durations and instants for the terminal; `core` parses them. Instants are epoch milliseconds. Pure: reads no clock. */

const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
export const hourMs = 3_600_000;
export const dayMs = 86_400_000;

/** At most six columns: `0`, `350ms`, `1.2s`, `45s`, `14m02s`, `5h47m`, `6d23h`, `400d`. */
export function shortDuration(ms: number): string {
  if (ms < 1_000) return ms === 0 ? '0' : `${Math.round(ms)}ms`;
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)}s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return two(seconds, 60, 'm', 1, 's');
  if (seconds < 86_400) return two(seconds, 3_600, 'h', 60, 'm');
  return seconds < 100 * 86_400 ? two(seconds, 86_400, 'd', 3_600, 'h') : `${Math.floor(seconds / 86_400)}d`;
}

function two(value: number, large: number, largeUnit: string, small: number, smallUnit: string): string {
  const rest = Math.floor((value % large) / small);
  return `${Math.floor(value / large)}${largeUnit}${String(rest).padStart(2, '0')}${smallUnit}`;
}

/** Exact, with as many units as needed: `7d`, `1d 12h`, `1h 30m`. */
export function exactDuration(ms: number): string {
  const parts: string[] = [];
  let rest = ms;
  for (const unit of ['d', 'h', 'm', 's', 'ms']) {
    const size = unitMs[unit] as number;
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.join(' ') || '0s';
}

/** The local time of an instant in a zone, in parts: weekday `Sun`, date `2026-03-29`, time `09:00`, offset `+02:00`. */
export interface WallTime {
  readonly weekday: string;
  readonly date: string;
  readonly time: string;
  readonly offset: string;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** @param zone an IANA name such as `Europe/Berlin` */
export function wallTime(at: number, zone = 'UTC'): WallTime {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      weekday: 'short',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
      timeZoneName: 'longOffset',
    });
    formats.set(zone, format);
  }
  const part: Record<string, string> = {};
  for (const { type, value } of format.formatToParts(at)) part[type] = value;
  const seconds = part.second === '00' ? '' : `:${part.second}`;
  return {
    weekday: part.weekday ?? '',
    date: `${part.year}-${part.month}-${part.day}`,
    time: `${part.hour}:${part.minute}${seconds}`,
    // `GMT` alone means zero. Historical offsets have seconds.
    offset: part.timeZoneName === 'GMT' ? '+00:00' : (part.timeZoneName ?? '').replace('GMT', ''),
  };
}

/** `Sun 2026-03-29 09:00 +02:00`; in UTC `Sun 2026-03-29 07:00 UTC`. */
export function instantText(at: number, zone = 'UTC'): string {
  const { weekday, date, time, offset } = wallTime(at, zone);
  return `${weekday} ${date} ${time} ${zone === 'UTC' ? 'UTC' : offset}`;
}

/** `2026-03-29T09:00:00+02:00`; in UTC `2026-03-29T07:00:00Z`. */
export function localIso(at: number, zone = 'UTC'): string {
  const { date, time, offset } = wallTime(at, zone);
  return `${date}T${time.length > 5 ? time : `${time}:00`}${zone === 'UTC' ? 'Z' : offset}`;
}

/** `in 3h00m`; `due` if the instant has passed. */
export function untilText(at: number, now: number): string {
  return at <= now ? 'due' : `in ${shortDuration(at - now)}`;
}
