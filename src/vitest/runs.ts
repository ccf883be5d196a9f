/** `toHaveRun` and `toHaveRunAt`: how often and when attempts of a task started. */
import type { SimulatedAttempt, Simulation } from 'escapement/testing';
import type { MatcherState } from './matching.ts';
import { checkTimes, count, type Moment } from './matching.ts';
import { isSimulation, runningSimulation, simulationOf, taskOf } from './received.ts';
import { momentOf, offset } from './time.ts';

/** For a task: `(times?)`; for a simulation: `(task, times?)`. */
export function toHaveRun(this: MatcherState, received: unknown, ...given: unknown[]) {
  const matcher = 'toHaveRun';
  const onSimulation = isSimulation(received);
  const sim = onSimulation ? simulationOf(this, matcher, received) : runningSimulation(matcher);
  const { name } = taskOf(this, matcher, onSimulation ? given[0] : received, sim);
  const times = (onSimulation ? given[1] : given[0]) as number | undefined;
  checkTimes(matcher, times);
  const attempts = sim.attempts(name);
  return {
    pass: times === undefined ? attempts.length > 0 : attempts.length === times,
    message: () => {
      const arguments_ = [...(onSimulation ? [name] : []), ...(times === undefined ? [] : [String(times)])].join(', ');
      const hint = this.utils.matcherHint(matcher, onSimulation ? 'sim' : name, arguments_, { isNot: this.isNot });
      const often = times === undefined ? '' : this.isNot ? ` any number of times except ${times}` : ` ${count(times, 'time')}`;
      const got =
        attempts.length === 0
          ? 'No attempt has started.'
          : `Attempts started ${count(attempts.length, 'time')}:\n\n${starts(sim, attempts)}`;
      return `${hint}\n\nExpected ${name} ${this.isNot && times === undefined ? 'not ' : ''}to have run${often}. ${got}`;
    },
  };
}

/** Checks the start of every attempt, in order. */
export function toHaveRunAt(this: MatcherState, received: unknown, moments: readonly Moment[]) {
  const matcher = 'toHaveRunAt';
  const sim = runningSimulation(matcher);
  const { name } = taskOf(this, matcher, received, sim);
  const startedAt = sim.startedAt.getTime();
  if (!Array.isArray(moments)) throw new TypeError(`${matcher} takes an array of moments, such as ['+0s', '+10m']`);
  const expected = moments.map((moment: Moment, i) => momentOf(moment, () => startedAt, `${matcher}()[${i}]`));
  const attempts = sim.attempts(name);
  const actual = attempts.map((attempt) => attempt.startedAt.getTime());
  return {
    pass: this.equals(actual, expected),
    message: () => {
      const hint = this.utils.matcherHint(matcher, name, 'moments', { isNot: this.isNot });
      const written = (all: readonly number[]) => all.map((at) => offset(at, startedAt));
      if (this.isNot) {
        return `${hint}\n\nExpected attempts of ${name} not to have started at exactly these moments:\n\n${starts(sim, attempts) || '  never'}`;
      }
      const diff = this.utils.diff(written(expected), written(actual)) ?? '';
      return `${hint}\n\nAttempts of ${name} did not start at the expected moments (offsets from ${sim.startedAt.toISOString()}):\n\n${diff}\n\n${starts(sim, attempts)}`.trimEnd();
    },
  };
}

const maxListed = 20;

function starts(sim: Simulation, attempts: readonly SimulatedAttempt[]): string {
  const lines = attempts.slice(0, maxListed).map(({ startedAt, worker, attempt, outcome, error }) => {
    const ended = error ? `${outcome}: ${error.name}: ${error.message.split('\n', 1)[0]}` : (outcome ?? 'running');
    return `  ${offset(startedAt.getTime(), sim.startedAt.getTime())} on ${worker}, attempt ${attempt}: ${ended}`;
  });
  if (attempts.length > maxListed) lines.push(`  and ${attempts.length - maxListed} more`);
  return lines.join('\n');
}
