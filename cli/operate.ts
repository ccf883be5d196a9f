/**
 * The frame of every operating command: it loads the module, checks that its jobs are in a shared store, opens the store, runs the command
 * and closes the store. Output of the module goes to stderr; stdout is reserved for the command.
 */
import type { Command } from 'commander';
import type { BackendOperations, LimitUse, Tasks } from 'escapement';
import { postgresUrl } from './arguments.ts';
import { type Application, loadApplication } from './config.ts';
import { captureConsole } from './console.ts';
import { clean, json, type Paint, painter, wantsColour } from './format.ts';
import { CommandError, type ExitCode, type Io, orStuck } from './io.ts';
import { type Place, putOn } from './stores.ts';

/** The store that a command works on. */
export interface StoreOperations extends BackendOperations {
  limits(): Promise<LimitUse[]>;
}

/** The context of an operating command. */
export interface Operation extends Application {
  readonly io: Io;
  /** The store of `--backend`. */
  readonly store: StoreOperations;
  readonly paint: Paint;
  /** The module as the user wrote it, for suggested commands. */
  readonly module: string;
  /** Prints the document with --json, and the lines otherwise. */
  print(document: () => unknown, lines: () => readonly string[]): void;
}

/** The store of a backend. */
export function storeOf(tasks: Tasks, alias: string): StoreOperations {
  return { ...tasks.backend(alias), limits: () => tasks.limits(alias) };
}

/** @throws CommandError if the module's backend does not keep jobs in a store that processes can share */
export function requireShared(application: Application, alias = 'default'): void {
  const { label } = application;
  const backend = backendOf(application, alias);
  if (backend.supports.shared) return;
  const what = alias === 'default' ? label : `the backend ${clean(alias)} of ${label}`;
  throw new CommandError(
    `${what} runs on ${backend.name}${backend.name === 'sqlite' ? "({ file: ':memory:' })" : '()'}, whose jobs live in one process and cannot be seen from another; ` +
      `use createTasks({ backend: sqlite({ file: 'tasks.db' }) }), from 'escapement/sqlite'`,
  );
}

/** @throws CommandError if the module has no backend with this alias */
function backendOf({ label, tasks }: Application, alias: string): Application['tasks']['backends'][number] {
  const backend = tasks.backends.find((other) => other.alias === alias);
  if (backend) return backend;
  const aliases = tasks.backends.map((other) => clean(other.alias)).join(', ');
  throw new CommandError(`${label} has no backend ${clean(alias)}; its backends are: ${aliases}`);
}

interface Options extends Place {
  readonly json?: boolean;
  /** The backend's alias, if the command takes one. */
  readonly backend?: string;
  /** If set, the command checks the backend itself. */
  readonly anyBackend?: boolean;
}

/** Runs `work` on the open application. */
export async function operate(
  module: string,
  options: Options,
  io: Io,
  work: (operation: Operation) => Promise<ExitCode>,
): Promise<ExitCode> {
  const restoreConsole = captureConsole(io.stderr, () => {});
  try {
    const application = await loadApplication(module, io);
    await putOn(application, options);
    const { label, tasks } = application;
    const { alias } = backendOf(application, options.backend ?? 'default');
    if (!options.anyBackend) requireShared(application, alias);
    const operation: Operation = {
      ...application,
      io,
      store: storeOf(tasks, alias),
      module: clean(module),
      paint: painter(wantsColour(io.stdout, io.env)),
      print: (document, lines) =>
        io.stdout.write(
          options.json
            ? `${json(document())}\n`
            : lines()
                .map((line) => `${line}\n`)
                .join(''),
        ),
    };
    return await orStuck(
      io,
      opened(application, io, () => work(operation), options),
      `the store of ${label} does not answer`,
    );
  } finally {
    restoreConsole();
  }
}

async function opened({ tasks, label }: Application, io: Io, work: () => Promise<ExitCode>, options: Options): Promise<ExitCode> {
  if (!options.anyBackend) await tasks.open();
  try {
    const code = await work();
    if (tasks.workers.here > 0) {
      io.stderr.write(
        `escapement: ${label} starts a worker when it is loaded, so this command would claim jobs too; start the worker in a separate module\n`,
      );
    }
    return code;
  } finally {
    await tasks.close();
  }
}

/** Adds the option that selects the store. */
export function addBackend(command: Command): Command {
  return command.option('--backend <alias>', 'backend whose store is used (default: default)');
}

/**
 * Adds a command that takes a module, with examples.
 * @param parent the program, or the command to which this subcommand belongs
 * @param options isGroup: it has subcommands; its own options would not reach them
 */
export function addCommand(
  parent: Command,
  name: string,
  texts: { summary: string; description: string; examples: readonly string[]; more?: string },
  options: { isDefault?: boolean; isGroup?: boolean } = {},
): Command {
  const path = parent.parent ? `${parent.parent.name()} ${parent.name()} ${name}` : `${parent.name()} ${name}`;
  const examples = texts.examples.map((example) => `  $ ${path} ${example}`);
  const command = parent
    .command(name, options)
    .summary(texts.summary)
    .description(texts.description)
    .argument('<module>', 'the module that calls createTasks(); .ts runs directly');
  if (!options.isGroup) {
    command
      .option('--postgres <url>', "PostgreSQL database to use instead of the module's default backend", postgresUrl)
      .option('--schema <name>', 'its schema (default: escapement)');
  }
  return command.addHelpText('after', `\nExamples:\n${examples.join('\n')}\n${texts.more ?? ''}`);
}
