/** Clocks, timers and async contexts in tasks. */
import 'escapement/testing';
import { timeCases } from './cases/time.ts';
import { matrix } from './matrix.ts';

matrix(timeCases);
