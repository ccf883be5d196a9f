/** Finds the module that calls this package, which is the one that a thread or process has to load. */

/** This package's folder; undefined in an application's bundle, where its functions are in the file that calls them. */
const ownFolder = /^file:\/\/(.*\/)(?:isolate\/caller\.[jt]s|escapement-core\.js)$/.exec(import.meta.url ?? '')?.[1];

/** How many stack frames of this package may be above the application's. */
const maxDepth = 30;

/** The file of the function that called this package, as a `file:` URL; undefined if it is not in a file. */
export function callingModule(): string | undefined {
  const folder = ownFolder === undefined ? undefined : decodeURI(ownFolder);
  for (const site of callSites()) {
    const name = site.getFileName();
    if (!name || name.startsWith('node:')) continue;
    const path = pathOf(name);
    if (path === undefined) return undefined;
    if (folder === undefined || !path.startsWith(folder)) return fileUrl(path);
  }
  return undefined;
}

function callSites(): readonly NodeJS.CallSite[] {
  const { prepareStackTrace, stackTraceLimit } = Error;
  try {
    // The textual stack may name the source files of a bundle, which cannot be loaded.
    Error.prepareStackTrace = (_, sites) => sites;
    Error.stackTraceLimit = maxDepth;
    const sites: unknown = new Error().stack;
    return Array.isArray(sites) ? sites : [];
  } finally {
    Error.prepareStackTrace = prepareStackTrace;
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** The path of a file, without the query that a dev server adds to reload it. */
function pathOf(name: string): string | undefined {
  const { fileURLToPath } = process.getBuiltinModule('node:url');
  try {
    if (name.startsWith('file:')) return fileURLToPath(name.replace(/[?#].*$/, ''));
  } catch {
    return undefined;
  }
  return process.getBuiltinModule('node:path').isAbsolute(name) ? name : undefined;
}

function fileUrl(path: string): string {
  return process.getBuiltinModule('node:url').pathToFileURL(path).href;
}

/** The URL of a module given as a `file:` URL or an absolute path; undefined for anything else. */
export function moduleUrl(module: unknown): string | undefined {
  const text = module instanceof URL ? module.href : module;
  if (typeof text !== 'string') return undefined;
  const path = pathOf(text);
  return path === undefined ? undefined : fileUrl(path);
}
