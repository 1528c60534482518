"""Wake-ups of workers through arq. A wake-up may be lost; the work stays due in Postgres."""
