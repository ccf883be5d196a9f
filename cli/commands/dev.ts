/** `escapement dev`: runs an application with a dashboard, in real or virtual time. */
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
  readonly deliver?: boolean;
  /** The default; accepted for scripts that pass it. */
  readonly paused?: boolean;
}

const more = `
Examples:
  $ escapement dev tasks.ts
  $ escapement dev tasks.ts --backend sqlite
  $ escapement dev tasks.ts --virtual --from 2026-03-28T18:00:00Z --speed 60

The module is reloaded when it or one of its imports changes. Running jobs have 5 s to finish, then
they return to the queue; jobs in memory are kept. If a version cannot be loaded, an error is shown
and the previous version keeps running.

With --virtual, the whole application runs on a virtual clock and plays the module's simulation
export (see escapement simulate --help). Time is paused until you press space, which plays and
pauses it. + and - change the speed, n goes to the next event, f to the next failure, . ] } advance
by a minute, an hour or a day, and g goes to an instant.
R goes back in time, to an instant, to a time of day, or by a duration: the module is loaded again,
and the seed and your actions up to then are replayed; later actions are discarded.

Email from the application is held in the outbox, where you can read and send it. With --deliver,
it is sent immediately.

Press ? for an explanation of the keys and numbers. If stdout is not a terminal, or CI is set, events
are printed as plain lines; in virtual time without --speed, for the period in simulation.for, else a day.

Exit codes:
  0  quit, or stopped by a signal
  2  wrong usage, or the module cannot be loaded or started`;

export function addDev(program: Command, io: Io, done: (code: ExitCode) => void): void {
  const command = program
    .command('dev')
    .summary('run and watch an application, in real or virtual time')
    .description('Runs workers, scheduler and a dashboard in one process, and reloads the module when it changes.')
    .argument('<module>', 'the module that calls createTasks(); .ts runs directly')
    .option('--backend <name>', "memory or sqlite, instead of the module's own backend", oneOf(['memory', 'sqlite']))
    .option('--file <file>', 'database file for --backend sqlite', 'escapement-dev.db')
    .option('--virtual', 'run on a virtual clock')
    .option('--from <instant>', 'start of virtual time (default: simulation.now, else 2026-01-01T00:00:00Z)', instant)
    .option('--speed <n>', '1, 10, 60, 600, 3600 or max (default: 60)', speed)
    .option('--seed <n>', 'draw ties, jitter and faults from this seed', whole(0, Number.MAX_SAFE_INTEGER))
    .option('--play', 'start with virtual time running (default: paused until you press space)')
    .addOption(new Option('--paused').hideHelp())
    .option('--deliver', 'send email through its transport (default: hold it in the outbox)')
    .option('--workers <n>', 'number of workers (default: simulation.workers, else 1)', whole(1, 64))
    .option('--concurrency <n>', 'maximum number of attempts at the same time per worker (default: 10)', whole(1, 10_000));
  addLooks(command, "this machine's; UTC in virtual time")
    .addHelpText('after', more)
    .action(async (module: string, options: Options) => {
      const {
        backend,
        file,
        virtual = false,
        from,
        speed: pace,
        seed,
        workers,
        concurrency,
        zone,
        theme,
        play = false,
        paused,
        deliver = false,
      } = options;
      const only = Object.entries({
        '--from': from,
        '--speed': pace,
        '--seed': seed,
        '--play': play || undefined,
        '--paused': paused,
      }).find(([, value]) => value !== undefined);
      if (!virtual && only) throw new CommandError(`${only[0]} needs --virtual`);
      if (virtual && deliver) throw new CommandError('--deliver sends mail, which virtual time never does; omit --virtual');
      // Imported here, so that other commands do not load the dashboard and the simulator.
      const { develop } = await import('../dash/develop.ts');
      done(
        await develop({ module, backend, file, virtual, from, speed: pace, seed, workers, concurrency, zone, theme, play, deliver }, io),
      );
    });
}

function speed(text: string): number {
  const value = text === 'max' ? Number.POSITIVE_INFINITY : Number(text.replace(/^[x×]/, ''));
  if (value > 0 && (value === Number.POSITIVE_INFINITY || value <= 1_000_000)) return value;
  throw new InvalidArgumentError("Give a number such as 60, or 'max'.");
}
