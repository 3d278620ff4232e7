/** A broken invariant: which one, of which pod. */
export class Violation extends Error {
  readonly invariant: string;
  readonly uid: string;

  constructor(invariant: string, uid: string, message: string) {
    super(message);
    this.name = 'Violation';
    this.invariant = invariant;
    this.uid = uid;
  }
}
