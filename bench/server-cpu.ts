import { readdirSync, readFileSync } from 'node:fs';

/** CPU time of the server, in microseconds; 0 if the server does not run on this machine. */
export function serverCpu(postmaster: number): number {
  let ticks = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat
        .slice(stat.lastIndexOf(')') + 2)
        .split(' ')
        .map(Number);
      const [parent, user = 0, system = 0, children = 0, childrenSystem = 0] = [fields[1], fields[11], fields[12], fields[13], fields[14]];
      if (parent === postmaster) ticks += user + system;
      if (Number(pid) === postmaster) ticks += user + system + children + childrenSystem;
    } catch {
      // The process has ended.
    }
  }
  return ticks * 10_000;
}
