/** Refuses Node.js versions that are too old when the package is imported, with a clear message instead of later failures in many places. */

/** The oldest supported version of Node.js; must match `engines` in package.json. */
const oldest = [22, 18] as const;

/** Describes why a version of Node.js is not supported; undefined if it is. */
export function nodeFault(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > oldest[0] || (major === oldest[0] && minor >= oldest[1])) return undefined;
  return `escapement needs Node ${oldest.join('.')} or later; this is Node ${version}`;
}

const fault = nodeFault(process.versions.node);
if (fault !== undefined) throw new Error(fault);
