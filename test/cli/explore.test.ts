/** `escapement simulate --explore`. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { cli, spawned } from './cli.ts';

afterEach(() => vi.unstubAllEnvs());

const explored = (...options: string[]) => cli(['simulate', 'test/cli/fixtures/charges.ts', ...options]);

describe('an exploration', () => {
  test('reports the failure and replays it from the printed command', async () => {
    const { code, stdout } = await explored('--explore', '500');
    expect(stdout).toMatch(/^found: Error: charge \d was charged twice\n[\s\S]*shrunk from \d+ to 1 decision:/);
    expect(code).toBe(1);
    vi.stubEnv('ESCAPEMENT_REPLAY', /ESCAPEMENT_REPLAY='(.+?)'/.exec(stdout)?.[1]);
    const again = await explored('--explore', '500');
    expect(again).toMatchObject({ code: 1, stdout: expect.stringMatching(/^found: Error: charge \d was charged twice\n/) });
    vi.stubEnv('CHARGES_KEY', '1');
    expect(await explored('--explore', '500')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^no failures found: 1 seed of 30m in /),
    });
  });

  test('saves failures to a folder and runs them first next time', async () => {
    const folder = join(mkdtempSync(join(tmpdir(), 'escapement-')), 'failures');
    const { stdout } = await explored('--until-failure', '--failures', folder);
    const [text = ''] = readdirSync(folder).filter((name) => name.endsWith('.txt'));
    expect(`found: ${readFileSync(join(folder, text), 'utf8')}`).toBe(stdout);
    expect(JSON.parse(readFileSync(join(folder, 'failures.json'), 'utf8'))).toHaveLength(1);
    expect((await explored('--explore', '1', '--faults', 'none', '--failures', folder)).code).toBe(0);
    expect((await explored('--explore', '1', '--faults', 'crash,handler', '--failures', folder)).code).toBe(1);
  });

  test('without a failure reports its coverage and the injected faults', async () => {
    vi.stubEnv('CHARGES_KEY', '1');
    const { code, stdout } = await explored('--explore', '60');
    expect(stdout).toMatch(/^no failures found: 60 seeds of 30m in .*\nfaults: F1 [\d,]+, /);
    expect(code).toBe(0);
    expect((await explored('--explore', '5', '--faults', 'none')).stdout).toMatch(/\nno faults occurred\n$/);
  });

  test('stops at Ctrl-C and reports what it has covered', async () => {
    vi.stubEnv('CHARGES_KEY', '1');
    const argv = ['simulate', 'test/cli/fixtures/charges.ts', '--until-failure'];
    const { code, stdout } = await cli(argv, { interruptAfterReadings: 40 });
    expect(stdout).toMatch(/^no failures found: \d+ seeds? of 30m in /);
    expect(code).toBe(130);
  });

  test('plays one hour of a longer simulation unless a period is given, and skips expectations if play was cut off', async () => {
    const shop = ['simulate', 'fixtures/shop/tasks.ts', '--explore', '1', '--faults', 'none'];
    const { code, stdout } = await cli(shop);
    expect(stdout).toMatch(/^no failures found: 1 seed of 1h in /);
    expect(stdout).toMatch(/\nexpect was not checked: play was cut off after 1h; give --for, as in simulation\.for\n$/);
    expect(code).toBe(0);
    expect((await cli([...shop, '--for', '2h'])).stdout).toMatch(/^no failures found: 1 seed of 2h in [^\n]*\nno faults occurred\n$/);
  });

  test('reports its progress and elapsed time without a terminal', async () => {
    vi.stubEnv('CHARGES_KEY', '1');
    const { stderr } = await explored('--explore', '40');
    expect(stderr).toMatch(/^\d+ of 40 seeds of 30m, [\d,]+ a minute, about [\dhms ]+ left$/m);
  });

  test('shows progress on one line of a terminal, then removes it', async () => {
    vi.stubEnv('CHARGES_KEY', '1');
    const { stderr } = await cli(['simulate', 'test/cli/fixtures/charges.ts', '--explore', '30'], { tty: true, env: { NO_COLOR: '1' } });
    expect(stderr).toMatch(/\d+ of 30 seeds of 30m, [\d,]+ a minute, about [\dhms ]+ left/);
    expect(stderr.endsWith('\r\u001b[2K')).toBe(true);
  });
});

describe('an exploration is rejected', () => {
  test.each([
    [['--explore', '5', '--json'], /do not work with a search/],
    [['--explore', '5', '--faults', 'crahs'], /unknown kind crahs; give all, none, or some of crash,/],
    [['--explore', '5', '--faults', 'none,crash'], /all and none cannot be combined with other kinds/],
    [['--faults', 'crash'], /--faults and --failures need --explore SEEDS or --until-failure/],
    [['--explore', '5', '--failures', '/proc/failures'], /--failures: \/proc\/failures cannot be created/],
  ])('with %j', async (options, text) => {
    const { code, stdout, stderr } = await explored(...options);
    expect(stderr).toMatch(text);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  test('if the failures file or ESCAPEMENT_REPLAY is invalid', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'escapement-'));
    writeFileSync(join(folder, 'failures.json'), 'something dear');
    expect(await explored('--explore', '1', '--failures', folder)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/a list of failed runs/),
    });
    expect(existsSync(join(folder, 'failures.json'))).toBe(true);
    vi.stubEnv('ESCAPEMENT_REPLAY', 'foo');
    expect(await explored('--explore', '1')).toMatchObject({ code: 2, stderr: expect.stringMatching(/ESCAPEMENT_REPLAY/) });
  });

  test('if play waits for something that never happens', async () => {
    const { code, stderr } = await spawned(['simulate', 'test/cli/fixtures/play-waits.ts', '--explore', '5']);
    expect(stderr).toMatch(/play\(sim\) of .*play-waits\.ts waits for something that never happens/);
    expect(code).toBe(2);
  });
});
