/** `escapement/testing`: virtual time, faults and the conformance suite, for any test runner. */
import '../ports/node-version.ts';

export type { SentMail } from '../email/seam.ts';
export type { ClockChange } from './clock-changes.ts';
export { clockChanges, dailyRuns, localTime, minutelyRuns, runsOverClockChanges } from './clock-changes.ts';
export type { ConformanceCase } from './conformance.ts';
export { conformance, conformanceCases } from './conformance.ts';
export type { CrashOutcome, CrashTable } from './crashes.ts';
export { everyCrash } from './crashes.ts';
export type { FaultFamily } from './drawn-faults.ts';
export type { Exploration, ExploreOptions, Scenario } from './explore.ts';
export { explore } from './explore.ts';
export type { CrashPoint, FaultOptions, StoreCall, StoreFault } from './faults.ts';
export type { SimulatedSmtp } from './mail.ts';
export type { Orders } from './orders.ts';
export { everyOrder } from './orders.ts';
export type { SimulatedAttempt } from './record.ts';
export type { SimulationOptions } from './settings.ts';
export type { SimulatedJobFilter, SimulatedWorker, Simulation, Timeline } from './simulation.ts';
export { currentSimulation, simulate } from './simulation.ts';
