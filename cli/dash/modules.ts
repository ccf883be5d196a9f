/**
 * Reloads the user's module and everything outside node_modules that it imports: each reload imports them under a new version, so that
 * changed files are read again. It also intercepts `createTasks` to replace backends with ones that survive a reload.
 */
import { watch } from 'node:fs';
import { registerHooks } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CreateTasksOptions, Store, StoreSource, Tasks } from 'escapement';

export interface ModulesOptions {
  /** Replaces every backend of the module. Undefined: only memory and immediate backends are replaced, so that they survive reloads. */
  readonly backend?: StoreSource | undefined;
  readonly memory: () => StoreSource;
}

const scheme = 'escapement-dev:';
const seam = Symbol.for('escapement.dev');
type OwnCreate = (options?: CreateTasksOptions) => Tasks;

/** Files of this package are loaded once and never versioned. */
const ownFolder = new URL('../../', import.meta.url).href;

export class Modules {
  readonly #options: ModulesOptions;
  readonly #files = new Set<string>();
  readonly #kept = new Map<string, StoreSource>();
  readonly #hooks: ReturnType<typeof registerHooks>;
  #version = 0;
  #unwatch: (() => void)[] = [];

  constructor(options: ModulesOptions) {
    this.#options = options;
    Object.defineProperty(globalThis, seam, {
      configurable: true,
      value: (own: OwnCreate, given?: CreateTasksOptions) => this.#create(own, given),
    });
    this.#hooks = registerHooks({
      resolve: (specifier, context, next) => {
        const found = next(specifier, context);
        if (context.parentURL?.startsWith(scheme)) return found;
        if (specifier === 'escapement' && isUserCode(context.parentURL))
          return { url: `${scheme}${found.url}`, format: 'module', shortCircuit: true };
        if (!isUserCode(found.url) || context.conditions.includes('require')) return found;
        const url = new URL(found.url);
        this.#files.add(fileURLToPath(url));
        url.searchParams.set('escapement', String(this.#version));
        return { ...found, url: url.href };
      },
      load: (url, context, next) => {
        if (!url.startsWith(scheme)) return next(url, context);
        const real = JSON.stringify(url.slice(scheme.length));
        const source = `export * from ${real}; import { createTasks as own } from ${real}; export const createTasks = (options) => globalThis[Symbol.for('escapement.dev')](own, options);`;
        return { format: 'module', source, shortCircuit: true };
      },
    });
  }

  /** Starts a new version: files imported from now on are read again. */
  renew(): void {
    this.#version += 1;
  }

  /** Calls `changed` shortly after an imported file changed. Watches directories, because editors replace files. */
  watch(module: string, changed: () => void, soon: (fn: () => void) => void): void {
    for (const end of this.#unwatch) end();
    this.#files.add(resolve(module));
    const folders = new Set([...this.#files].map((file) => dirname(file)));
    this.#unwatch = [...folders].map((folder) => {
      try {
        const watcher = watch(folder, (_event, name) => {
          if (name === null || this.#files.has(resolve(folder, name))) soon(changed);
        });
        watcher.on('error', () => {});
        return () => watcher.close();
      } catch {
        // A missing folder is reported when the module is loaded.
        return () => {};
      }
    });
  }

  close(): void {
    for (const end of this.#unwatch) end();
    this.#hooks.deregister();
    Reflect.deleteProperty(globalThis, seam);
  }

  #create(own: OwnCreate, given: CreateTasksOptions = {}): Tasks {
    return own(this.#replaced(given));
  }

  #replaced(given: CreateTasksOptions): CreateTasksOptions {
    const { backend, backends, ...rest } = given;
    // createTasks reports this error.
    if (backend !== undefined && backends !== undefined) return given;
    const sources = backends ?? { default: backend };
    const replaced = Object.entries(sources).map(([alias, source]) => [alias, this.#sourceFor(alias, source)] as const);
    return { ...rest, backends: Object.fromEntries(replaced) as NonNullable<CreateTasksOptions['backends']> };
  }

  #sourceFor(alias: string, source: unknown): unknown {
    if (this.#options.backend) return this.#keep(alias, () => this.#options.backend as StoreSource);
    const { kind, name } = (source ?? {}) as { kind?: unknown; name?: unknown };
    const lives = kind === 'store' && name === 'memory';
    const runsAtOnce = source === undefined || (kind === 'backend' && (name === 'immediate' || name === 'dummy'));
    return lives || runsAtOnce ? this.#keep(alias, this.#options.memory) : source;
  }

  /** Keeps one store for all versions of the module. None of them closes it. */
  #keep(alias: string, make: () => StoreSource): StoreSource {
    const before = this.#kept.get(alias);
    if (before) return before;
    const kept = keptSource(make());
    this.#kept.set(alias, kept);
    return kept;
  }
}

/** A source of a single store that is never closed. */
export function keptSource(source: StoreSource): StoreSource {
  let opened: Promise<Store> | undefined;
  return {
    ...source,
    open: () => {
      opened ??= Promise.resolve(source.open()).then(unclosable);
      return opened;
    },
  };
}

function isUserCode(url: string | undefined): boolean {
  return url?.startsWith('file:') === true && !url.includes('/node_modules/') && !isOwn(url);
}

/** True for files of this package: in `dist`, or its sources in tests. */
function isOwn(url: string): boolean {
  return url.startsWith(`${ownFolder}src/`) || url.startsWith(`${ownFolder}cli/`) || url.startsWith(`${ownFolder}dist/`);
}

function unclosable(store: Store): Store {
  return new Proxy(store, {
    get(target, key) {
      if (key === 'close') return () => {};
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
