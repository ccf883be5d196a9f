/** The files that `escapement init` creates. Each works unchanged; `test/packaged` runs them. */

export function tasksModule(isTypeScript: boolean): string {
  const input = isTypeScript ? '({ to }: { to: string })' : '({ to })';
  return `import { createTasks, exponential } from 'escapement';
import { sqlite } from 'escapement/sqlite';

export const tasks = createTasks({ backend: sqlite({ file: 'data/tasks.db' }) });

// A stand-in for a mail server. Tests replace its function.
export const mailer = {
  async send(to${isTypeScript ? ': string' : ''}, subject${isTypeScript ? ': string' : ''}) {
    console.log(\`to \${to}: \${subject}\`);
  },
};

export const sendWelcome = tasks.define('mail.welcome', {
  retry: { maxAttempts: 5, backoff: exponential({ initial: '10s', factor: 6, jitter: 0 }) },
  timeout: '30s',
  async run${input} {
    await mailer.send(to, 'Welcome');
    return { sentTo: to };
  },
});

export const sendDigest = tasks.define('mail.digest', async () => {
  await mailer.send('team@example.com', 'What happened yesterday');
});

tasks.schedule('daily-digest', { task: sendDigest, cron: '0 9 * * *', timezone: 'UTC' });
`;
}

export function testModule(module: string, withVitest: boolean): string {
  const body = `  let failures = 2;
  mailer.send = async () => {
    if (failures-- > 0) throw new Error('503');
  };
`;
  if (withVitest) {
    return `import { testTasks } from 'escapement/vitest';
import { expect } from 'vitest';
import { mailer, sendDigest, sendWelcome, tasks } from './${module}';

const test = testTasks(tasks, { now: '2026-03-27T00:00:00Z' });

test('a welcome survives a mail server that is down for a minute', async ({ sim }) => {
${body}  const result = await sendWelcome.enqueue({ to: 'ada@example.com' });
  await sim.runUntilIdle();
  await expect(result).toHaveSucceeded({ attempts: 3, returnValue: { sentTo: 'ada@example.com' } });
  expect(sendWelcome).toHaveRunAt(['+0s', '+10s', '+1m 10s']);
});

test('the digest goes out at nine, every day', async ({ sim }) => {
  mailer.send = async () => {};
  await sim.advance('2d');
  expect(sendDigest).toHaveRunAt(['+9h', '+33h']);
});
`;
  }
  return `import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulate } from 'escapement/testing';
import { mailer, sendDigest, sendWelcome, tasks } from './${module}';

test('a welcome survives a mail server that is down for a minute', async () => {
${body}  const sim = await simulate(tasks);
  try {
    const result = await sendWelcome.enqueue({ to: 'ada@example.com' });
    await sim.runUntilIdle(); // a minute of retries, in a millisecond
    await result.refresh();
    assert.equal(result.status, 'successful');
    assert.equal(result.attempts, 3);
    assert.deepEqual(result.returnValue, { sentTo: 'ada@example.com' });
  } finally {
    await sim.end();
  }
});

test('the digest goes out at nine, every day', async () => {
  mailer.send = async () => {};
  const sim = await simulate(tasks, { now: '2026-03-27T00:00:00Z' });
  try {
    await sim.advance('2d');
    assert.deepEqual(
      sim.attempts(sendDigest).map(({ startedAt }) => startedAt.toISOString()),
      ['2026-03-27T09:00:00.000Z', '2026-03-28T09:00:00.000Z'],
    );
  } finally {
    await sim.end();
  }
});
`;
}

/** The path of the program. npx and npm do not forward SIGTERM to a worker. */
const program = 'node_modules/escapement/dist/cli/main.js';

export function systemdUnit({ cwd, node, module }: { cwd: string; node: string; module: string }): string {
  // systemd reads % as the start of a specifier.
  const quoted = (text: string) => text.replaceAll('%', '%%');
  return `[Unit]
Description=Escapement worker
After=network.target

[Service]
WorkingDirectory=${quoted(cwd)}
# Run Node directly: npx and npm leave the worker running on SIGTERM.
ExecStart="${quoted(node)}" ${program} worker ${module}
Environment=NODE_ENV=production
Restart=always
RestartSec=1
# The worker gives running jobs 25 s to finish, then aborts their signals, and returns unfinished jobs to the queue 4 s later.
KillMode=mixed
TimeoutStopSec=40
# Choose a user that may write to data/.
# User=www-data

[Install]
WantedBy=multi-user.target
`;
}

export function dockerfile({ module, hasLock }: { module: string; hasLock: boolean }): string {
  return `FROM node:24-slim
WORKDIR /app
ENV NODE_ENV=production
COPY package*.json ./
RUN npm ${hasLock ? 'ci' : 'install'} --omit=dev
COPY . .
RUN mkdir -p data && chown node data
USER node
# The database is on a volume, shared with the containers on this machine that enqueue. Do not use a bind mount on Docker Desktop.
VOLUME /app/data
# Run Node directly: npx and npm leave the worker running on SIGTERM. Stop it with: docker stop --time 40
CMD ["node", "${program}", "worker", "${module}"]
`;
}
