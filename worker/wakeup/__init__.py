"""Wake-ups of workers through arq; a wake-up may be lost, the work never is."""
