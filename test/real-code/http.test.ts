/** HTTP clients in tasks. */
import { httpCases } from './cases/http.ts';
import { matrix } from './matrix.ts';

matrix(httpCases);
