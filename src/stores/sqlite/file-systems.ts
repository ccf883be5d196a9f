/**
 * Detects file systems on which SQLite's write-ahead log does not work. It needs shared memory and locks that all writers see; without them
 * files are corrupted silently. Linux identifies file systems by a number. All FUSE file systems share one number, and the mount table
 * tells them apart.
 */
import { readFileSync, realpathSync, statfsSync } from 'node:fs';
import { StoreError } from '../../core/errors.ts';

/** From linux/magic.h and the sources of each file system. */
const refused: Readonly<Record<number, string>> = {
  26985: 'NFS',
  20859: 'SMB',
  4283649346: 'CIFS',
  4266872130: 'SMB2',
  1397113167: 'AFS',
  1799439955: 'AFS',
  1937076805: 'Coda',
  22092: 'NCP',
  12805120: 'Ceph',
  16914839: '9P',
  2020557398: 'vboxsf, a shared folder of VirtualBox',
  3133910204: 'vmhgfs, a shared folder of VMware',
  2088527475: 'prl_fs, a shared folder of Parallels',
  198183888: 'Lustre',
  1196443219: 'GPFS',
  18225520: 'GFS2',
  1952539503: 'OCFS2',
  428016422: 'BeeGFS',
  2866260714: 'PanFS',
};
const fuse = 0x65735546;
/** FUSE file systems on a local disk. */
const localFuse =
  /^fuseblk$|^fuse\.(ntfs-3g|ntfs|exfat|lowntfs-3g|bindfs|encfs|gocryptfs|cryfs|securefs|mergerfs|unionfs|unionfs-fuse|fuse-overlayfs|ext2|fuse2fs|zfs|zfs-fuse|apfs|apfs-fuse|hfsfuse|ecryptfs|veracrypt|dislocker)$/;

/**
 * @param file as the user named it
 * @param folder the folder that contains it
 * @throws StoreError of kind `unsupported`
 */
export function checkFileSystem(file: string, folder: string, allowFuse: boolean): void {
  const type = statfsSync(folder).type;
  const instead = 'put it on a local disk, or use another backend';
  const network = refused[type];
  if (network) {
    throw new StoreError(`${file} is on a network or shared file system (${network}), where SQLite's locks do not work; ${instead}`, {
      kind: 'unsupported',
    });
  }
  if (type !== fuse) return;
  const mounted = mountedAs(realpathSync(folder));
  const name = mounted !== undefined && /^fuse|^virtiofs$/.test(mounted) ? mounted : undefined;
  const isLocal = name !== undefined && localFuse.test(name);
  if (allowFuse && isLocal) return;
  const why = isLocal
    ? `a FUSE file system (${name}), on which SQLite's shared memory may not work; put it on another disk, or pass sqlite({ allowFuse: true }) if only processes on this machine use it`
    : `a FUSE file system (${name ?? 'virtiofs, sshfs, s3fs or similar'}), where SQLite's locks and shared memory do not work; ${instead}. In a container, use a volume instead of a bind mount`;
  throw new StoreError(`${file} is on ${why}`, { kind: 'unsupported' });
}

/** The type of the file system that contains a folder, such as `fuse.sshfs`, from the kernel's mount table. */
function mountedAs(folder: string): string | undefined {
  let found: { point: string; type: string | undefined } | undefined;
  for (const line of mounts().split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const point = (before.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    const contains = folder === point || folder.startsWith(point.endsWith('/') ? point : `${point}/`);
    // If several file systems are mounted at one point, the last one is on top.
    if (point !== '' && contains && point.length >= (found?.point.length ?? 0)) found = { point, type: after.split(' ')[0] };
  }
  return found?.type;
}

function mounts(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return '';
  }
}
