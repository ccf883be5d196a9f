/** Queues, limits, retries and timeouts of libraries in tasks. */
import 'escapement/testing';
import { queueAndTimeoutCases } from './cases/queues-and-timeouts.ts';
import { matrix } from './matrix.ts';

matrix(queueAndTimeoutCases);
