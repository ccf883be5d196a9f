/** Every store that the suites run over. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memory, type StoreSource } from 'escapement';
import { sqlite } from 'escapement/sqlite';

const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
let files = 0;

export interface NamedSource extends StoreSource {
  readonly label: string;
}

export const stores: readonly NamedSource[] = [
  { ...memory(), label: 'memory' },
  { ...sqlite({ file: ':memory:' }), label: 'sqlite in memory' },
  {
    ...sqlite({ file: 'placeholder' }),
    label: 'sqlite on a file',
    open: () => sqlite({ file: join(folder, `${++files}.db`), synchronous: 'NORMAL' }).open(),
  },
];
