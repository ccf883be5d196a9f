/** Generates the tables in docs/libraries.md from the cases. */
import { readFileSync } from 'node:fs';
import type { Case } from './case.ts';
import { databaseCases } from './cases/databases.ts';
import { fileAndCryptoCases } from './cases/files-and-crypto.ts';
import { httpCases, protocolCases } from './cases/http.ts';
import { mailCases } from './cases/mail.ts';
import { mockCases } from './cases/mocks.ts';
import { nockCases } from './cases/nock.ts';
import { processAndThreadCases } from './cases/processes-and-threads.ts';
import { queueAndTimeoutCases } from './cases/queues-and-timeouts.ts';
import { timeCases } from './cases/time.ts';

const sections: readonly [string, readonly Case[]][] = [
  ['HTTP clients', httpCases],
  ['Node.js protocols and WebSockets', protocolCases],
  ['Databases', databaseCases],
  ['Mail', mailCases],
  ['Queues, retries and timeouts', queueAndTimeoutCases],
  ['Processes and threads', processAndThreadCases],
  ['Files, compression, cryptography and images', fileAndCryptoCases],
  ['Mocks and other fake clocks', [...mockCases, ...nockCases]],
  ['Clocks, timers and contexts', timeCases],
];

const { dependencies, devDependencies } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
const versions: Record<string, string> = { ...dependencies, ...devDependencies };

const intro = `# Libraries in virtual time

While the process does real work, virtual time stands still. When no real work is in progress, time moves. Most code therefore needs no
changes to run in a simulation. The tables list the cases in test/real-code. Each case runs alone, with a task timeout, beside a job that sleeps for an
hour, and as three concurrent jobs with a seed. If a server never answers, the simulation waits for \`realBudget\`, then moves on to the
timeout that ends the wait. The tables are generated from the cases by
\`ESCAPEMENT_TABLE=1 npm run test:real-code -- test/real-code/libraries.test.ts\`.
`;

/** The text of docs/libraries.md. */
export function librariesDocument(): string {
  return [intro, ...sections.map(([title, cases]) => section(title, cases))].join('\n');
}

/** All cases, including those that need a server. */
export const allCases: readonly Case[] = sections.flatMap(([, cases]) => cases);

function section(title: string, cases: readonly Case[]): string {
  const rows = [...Map.groupBy(cases, ({ library }) => library)].map(([library, own]) => row(library, own));
  return [`## ${title}`, '', '| library | tested | works | what you need to do |', '|---|---|---|---|', ...rows, ''].join('\n');
}

function row(library: string, cases: readonly Case[]): string {
  const version = versions[library];
  const advice = new Set(cases.flatMap((one) => one.advice ?? []));
  const cells = [
    version ? `${library} ${version}` : library,
    cases.map(({ name }) => name).join('; '),
    cases.every(({ refused }) => refused) ? 'no: rejected with an error' : 'yes',
    advice.size > 0 ? [...advice].join('; ') : 'nothing',
  ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}
