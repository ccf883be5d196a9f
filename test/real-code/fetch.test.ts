/** `fetch` in tasks. */
import { fetchCases } from './cases/http.ts';
import { matrix } from './matrix.ts';

matrix(fetchCases);
