/** Refuses a Node that is too old, in words, when the package is imported: what would fail later fails in many places. */

/** The oldest Node that Escapement runs on; the `engines` of package.json say the same. */
const oldest = [22, 18] as const;

/** What is wrong with this version of Node; undefined: nothing. */
export function nodeFault(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > oldest[0] || (major === oldest[0] && minor >= oldest[1])) return undefined;
  return `escapement needs Node ${oldest.join('.')} or later; this is Node ${version}`;
}

const fault = nodeFault(process.versions.node);
if (fault !== undefined) throw new Error(fault);
