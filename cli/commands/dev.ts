/** `escapement dev`: an application at work under one's eyes, in real or in virtual time. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { instant, oneOf, whole } from '../arguments.ts';
import { CommandError, type ExitCode, type Io } from '../io.ts';
import { addLooks, type Looks } from './looks.ts';

interface Options extends Looks {
  readonly backend?: 'memory' | 'sqlite';
  readonly file: string;
  readonly virtual?: boolean;
  readonly from?: number;
  readonly speed?: number;
  readonly seed?: number;
  readonly workers?: number;
  readonly concurrency?: number;
  readonly play?: boolean;
  /** What is so by default; scripts may still say it. */
  readonly paused?: boolean;
}

const more = `
Examples:
  $ escapement dev tasks.ts
  $ escapement dev tasks.ts --backend sqlite
  $ escapement dev tasks.ts --virtual --from 2026-03-28T18:00:00Z --speed 60

The module is loaded again when it or what it imports changes. Jobs in flight have 5 s to end, then
they are given back; jobs in memory stay. A version that cannot be loaded is told of, and the one
before it goes on.

With --virtual the whole application runs on a virtual clock. What the module exports as simulation
is played (see escapement simulate --help). Time stands still until you press space, which plays and
pauses; + and - change the speed, n goes to the next event, f to the next failure, . ] } on by a
minute, an hour, a day, g to an instant.
R turns time back, to an instant, a time of day or by a duration: the module is loaded afresh and the
seed played again, with what you did until then; what you did later is forgotten.

Press ? for the keys and for what every number means. Where stdout is no terminal, or CI is set,
events are printed as plain lines; in virtual time without --speed, those of simulation.for, else a day.

Exit codes:
  0  left, or asked to end
  2  wrong usage, or the module cannot be loaded or started`;

export function addDev(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = program
    .command('dev')
    .summary('run and watch an application, in real or virtual time')
    .description('Runs workers, scheduler and a dashboard in one process, and reloads the module when it changes.')
    .argument('<module>', 'the module that calls createTasks(); .ts runs as it is')
    .option('--backend <name>', "memory or sqlite, in place of the module's own", oneOf(['memory', 'sqlite']))
    .option('--file <file>', 'the file of --backend sqlite', 'escapement-dev.db')
    .option('--virtual', 'on a virtual clock')
    .option('--from <instant>', 'where virtual time begins (default: simulation.now, else 2026-01-01T00:00:00Z)', instant)
    .option('--speed <n>', '1, 10, 60, 600, 3600 or max (default: 60)', speed)
    .option('--seed <n>', 'draw ties, jitter and faults from this seed', whole(0, Number.MAX_SAFE_INTEGER))
    .option('--play', 'let virtual time run from the beginning (default: it stands still until you press space)')
    .addOption(new Option('--paused').hideHelp())
    .option('--workers <n>', 'how many workers (default: simulation.workers, else 1)', whole(1, 64))
    .option('--concurrency <n>', 'attempts at a time on each worker (default: 10)', whole(1, 10_000));
  addLooks(command, "this machine's; UTC in virtual time")
    .addHelpText('after', more)
    .action(async (module: string, options: Options) => {
      const { backend, file, virtual = false, from, speed: pace, seed, workers, concurrency, zone, theme, play = false, paused } = options;
      const only = Object.entries({
        '--from': from,
        '--speed': pace,
        '--seed': seed,
        '--play': play || undefined,
        '--paused': paused,
      }).find(([, value]) => value !== undefined);
      if (!virtual && only) throw new CommandError(`${only[0]} is for virtual time: add --virtual`);
      // Here, and not at the top: nobody else is to carry a dashboard, or a simulator, with them.
      const { develop } = await import('../dash/develop.ts');
      done(await develop({ module, backend, file, virtual, from, speed: pace, seed, workers, concurrency, zone, theme, play }, io));
    });
}

function speed(text: string): number {
  const value = text === 'max' ? Number.POSITIVE_INFINITY : Number(text.replace(/^[x×]/, ''));
  if (value > 0 && (value === Number.POSITIVE_INFINITY || value <= 1_000_000)) return value;
  throw new InvalidArgumentError("Give a number such as 60, or 'max'.");
}
