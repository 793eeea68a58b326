"""What a program will cost on chips that are not here: compiled programs are read, counted and put
into seconds.
"""
