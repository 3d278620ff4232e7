/**
 * The same program in ASCII. For one that is not all ASCII V8 keeps two bytes a character: 3 MB of
 * private memory for limpet's, instead of half of that. esbuild escapes what it can, in texts and
 * names; regular expressions it leaves, and there `\u` and four digits mean the same.
 *
 * @param bundle What esbuild wrote with `charset: 'ascii'`.
 */
export function inAscii(bundle: string): string {
  return bundle.replace(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
